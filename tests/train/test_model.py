import numpy as np
import pytest

from slimscan_train.model import PIXEL_CENTRE, PIXEL_SCALE, ModelConfig, build_model, normalise_pixels

SMALL = ModelConfig(width=0.05)


@pytest.mark.parametrize(("height", "width", "outputs"), [(64, 64, 1), (64, 96, 2)])
def test_logits_and_a_coarse_evidence_map(height: int, width: int, outputs: int) -> None:
    model = build_model(ModelConfig(width=0.05, outputs=outputs), height, width)
    logits, evidence = model(np.zeros((3, height, width, 1), np.float32), training=False)
    assert logits.shape == (3, outputs)
    assert evidence.shape == (3, height // 32, width // 32, outputs)


def test_the_logit_is_the_mean_of_the_evidence_map() -> None:
    model = build_model(ModelConfig(width=0.05, outputs=2), 96, 64, seed=1)
    pixels = np.random.default_rng(0).uniform(-1, 1, (4, 96, 64, 1)).astype(np.float32)
    logits, evidence = model(pixels, training=False)
    assert np.ptp(evidence.numpy()) > 0
    np.testing.assert_allclose(logits.numpy(), evidence.numpy().mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)


def test_the_seed_fixes_the_weights() -> None:
    first, again, other = (build_model(SMALL, 32, 32, seed=seed).get_weights() for seed in (1, 1, 2))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert any(not np.array_equal(one, another) for one, another in zip(first, other, strict=True))


def test_the_default_network_is_small_and_its_channels_fit_the_int8_kernels() -> None:
    model = build_model(ModelConfig(), 160, 160)
    assert model.count_params() < 1_000_000
    channels = [
        layer.filters for layer in model.layers if type(layer).__name__ == "Conv2D" and layer.name != "evidence"
    ]
    assert channels
    assert all(count % 8 == 0 for count in channels)


def test_the_width_widens_and_nothing_is_narrower_than_eight() -> None:
    counts = [build_model(ModelConfig(width=width), 32, 32).count_params() for width in (0.05, 0.5, 1.0)]
    assert counts == sorted(set(counts))
    narrow = build_model(SMALL, 32, 32)
    assert {layer.filters for layer in narrow.layers if type(layer).__name__ == "Conv2D"} >= {1, 8}


def test_batch_norm_momentum_and_dropout_are_those_asked_for() -> None:
    model = build_model(ModelConfig(width=0.05, batch_norm_momentum=0.9, dropout=0.3), 32, 32)
    momenta = {layer.momentum for layer in model.layers if type(layer).__name__ == "BatchNormalization"}
    assert momenta == {0.9}
    assert model.get_layer("dropout").rate == 0.3


def test_pixels_enter_on_the_int8_grid() -> None:
    normalised = normalise_pixels(np.array([0, 128, 255], np.uint8)).numpy()
    np.testing.assert_allclose(normalised, [-PIXEL_CENTRE / PIXEL_SCALE, 0.0, (255 - PIXEL_CENTRE) / PIXEL_SCALE])
    assert np.abs(normalised).max() < 1.01


@pytest.mark.parametrize("bad", [{"width": 0.01}, {"outputs": 0}, {"dropout": 1.0}, {"batch_norm_momentum": 1.0}])
def test_bounds(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ModelConfig(**bad)
