"""Channel pruning: streams are whole, the surgery is exact, and the cheapest network for the target is found."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from slimscan_edge.errors import InputError
from slimscan_export import channel_pruning
from slimscan_export.channel_pruning import (
    MULTIPLE,
    Stream,
    channel_importance,
    choose_channels,
    find_streams,
    narrow,
    prune_channels,
)
from slimscan_export.macs import keras_macs
from slimscan_train.fit import predict_logits
from slimscan_train.model import ModelConfig, build_model, normalise_pixels


@pytest.fixture(scope="module")
def drawn() -> Any:
    """Half as wide as the real one, two outputs, and every weight and moving statistic drawn at random."""
    model = build_model(ModelConfig(width=0.5, outputs=2), 32, 32)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([_draw(rng, weights.shape) for weights in layer.get_weights()])
    return model


def _draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Kernels that keep the size of what goes through them, so that no activation is at its end; vectors near 1."""
    if len(shape) == 1:
        return rng.uniform(0.7, 1.3, shape)
    inputs = shape[0] * shape[1] * (1 if shape[-1] == 1 else shape[2])
    return rng.normal(0.0, 0.5 / np.sqrt(inputs), shape)


@pytest.fixture
def model(drawn) -> Iterator[Any]:
    """`drawn`, which a test may change."""
    weights = drawn.get_weights()
    yield drawn
    drawn.set_weights(weights)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (6, 32, 32, 1), dtype=np.uint8)


def by_name(model: Any) -> dict[str, Stream]:
    return {stream.name: stream for stream in find_streams(model)}


def total(model: Any) -> int:
    return sum(keras_macs(model).values())


def without_effect(model: Any, gone: dict[str, list[int]]) -> None:
    """Let nothing read these channels of these streams."""
    streams = by_name(model)
    for name, channels in gone.items():
        for reader in streams[name].readers:
            kernel, *bias = model.get_layer(reader).get_weights()
            kernel[:, :, channels, :] = 0.0
            model.get_layer(reader).set_weights([kernel, *bias])


GONE = {
    "stem": [1, 6],
    "block0_pointwise": [0],
    "block1_pointwise": [3, 4, 15],
    "block3_pointwise": [2, 20],
    "block5_pointwise": [0, 39],
    "block10_pointwise": [5, 6, 7, 50],
}


def test_residual_sums_and_depthwise_chains_tie_their_layers(model):
    streams = by_name(model)
    assert list(streams) == ["pixels", *GONE, "evidence"]
    assert [name for name, stream in streams.items() if stream.fixed] == ["pixels", "evidence"]
    residual = streams["block5_pointwise"]
    assert residual.channels == 80
    assert residual.readers == tuple(f"block{i}_pointwise" for i in range(6, 11))
    for block in range(6, 10):
        assert {f"block{block}_depthwise", f"block{block}_pointwise", f"block{block}_sum"} <= set(residual.layers)
    assert "block10_depthwise" in residual.layers
    assert "block10_pointwise" not in residual.layers
    assert sum(len(stream.layers) for stream in streams.values()) == len(model.layers)


def test_without_channels_that_nothing_reads_the_answers_are_the_same(model, pixels):
    without_effect(model, GONE)
    kept = {name: np.setdiff1d(np.arange(by_name(model)[name].channels), gone) for name, gone in GONE.items()}
    narrower = narrow(model, find_streams(model), kept)
    assert total(narrower) < total(model)
    for before, after in zip(
        model(normalise_pixels(pixels), training=False), narrower(normalise_pixels(pixels), training=False), strict=True
    ):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_a_narrower_network_is_narrower_throughout_and_the_wide_one_is_left_alone(model):
    before = model.get_weights()
    narrower = narrow(model, find_streams(model), {"block5_pointwise": np.arange(16)})
    found, streams = by_name(narrower), by_name(model)
    for name, stream in found.items():
        assert stream.layers == streams[name].layers
        channels = {narrower.get_layer(layer).output.shape[-1] for layer in stream.layers}
        assert channels == {16 if name == "block5_pointwise" else streams[name].channels}
    for was, still in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, still)


def test_channels_that_nothing_reads_count_for_nothing_and_go_first(model, pixels):
    gone = list(range(3, 19, 2))  # as many as go at a time
    without_effect(model, {"block1_pointwise": gone})
    streams = find_streams(model)
    importance = channel_importance(model, streams, pixels)
    assert sorted(importance) == sorted(GONE)
    assert not importance["block1_pointwise"][gone].any()
    assert importance["block1_pointwise"].any()
    importance = {name: values + (name != "block1_pointwise") for name, values in importance.items()}
    kept = choose_channels(model, streams, importance, total(model) - 1)
    assert list(kept) == ["block1_pointwise"]
    assert not importance["block1_pointwise"][np.setdiff1d(np.arange(24), kept["block1_pointwise"])].any()


def test_importance_is_how_far_the_logits_move_to_first_order(model, pixels):
    """A channel taken away by a hundredth moves the logits by a hundredth of its share."""
    streams = find_streams(model)
    found = channel_importance(model, streams, pixels[:1])["block10_pointwise"]
    before = predict_logits(model, pixels[:1])
    for channel in (0, 17):
        weights = model.get_weights()
        for reader in by_name(model)["block10_pointwise"].readers:
            kernel, *bias = model.get_layer(reader).get_weights()
            kernel[:, :, channel, :] *= 0.99
            model.get_layer(reader).set_weights([kernel, *bias])
        moved = (before - predict_logits(model, pixels[:1])) / 0.01
        model.set_weights(weights)
        assert found[channel] == pytest.approx(np.square(moved).sum(), rel=0.02)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_target_is_met_by_steps_of_whole_kernels(model, pixels, share):
    allowed = round((1 - share) * total(model))
    narrower = prune_channels(model, allowed, pixels)
    assert 0.8 * allowed < total(narrower) <= allowed
    for stream in find_streams(narrower):
        assert stream.fixed or (stream.channels % MULTIPLE == 0 and stream.channels >= MULTIPLE)


def test_what_saves_more_for_the_same_importance_goes_first(model):
    streams = find_streams(model)
    equal = {stream.name: np.ones(stream.channels) for stream in streams if not stream.fixed}
    kept = choose_channels(model, streams, equal, total(model) - 1)
    saved = {
        name: total(model) - total(narrow(model, streams, {name: np.arange(len(values) - MULTIPLE)}))
        for name, values in equal.items()
        if len(values) > MULTIPLE
    }
    assert list(kept) == [max(saved, key=saved.__getitem__)]


def test_a_target_that_no_network_meets_is_refused(model, pixels):
    with pytest.raises(InputError, match=r"cannot be cut to 100 multiply-accumulates: at 8 channels everywhere"):
        prune_channels(model, 100, pixels)


def test_a_network_that_was_saved_is_pruned_alike(model, pixels, tmp_path):
    import tf_keras

    narrower = prune_channels(model, total(model) // 2, pixels)
    narrower.save(tmp_path / "narrower.keras")
    read = tf_keras.models.load_model(tmp_path / "narrower.keras", compile=False)
    np.testing.assert_array_equal(predict_logits(read, pixels), predict_logits(narrower, pixels))
    again = prune_channels(read, total(read) - 1, pixels)
    assert total(again) < total(read)


@pytest.mark.parametrize("kind", ["LayerNormalization", "Conv2D"])
def test_layers_whose_channels_cannot_be_followed_are_refused(kind):
    import tf_keras

    layers = tf_keras.layers
    pixels = layers.Input((8, 8, 4))
    layer = layers.LayerNormalization() if kind == "LayerNormalization" else layers.Conv2D(4, 1, groups=2)
    outputs = layers.GlobalAveragePooling2D()(layer(pixels))
    with pytest.raises(InputError, match="leave out the rows that prune channels"):
        find_streams(tf_keras.Model(pixels, outputs))


def test_the_cost_by_widths_is_that_of_the_network(model):
    streams = find_streams(model)
    cost = channel_pruning._Cost(model, streams)
    widths = {stream.name: stream.channels for stream in streams} | {"block5_pointwise": 16, "stem": 8}
    narrower = narrow(model, streams, {"block5_pointwise": np.arange(16)})
    assert cost.of(widths) == total(narrower)
