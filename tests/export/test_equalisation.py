"""Cross-layer equalisation: the float function stays, and channels share their tensor's 8 bits fairly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slimscan_export.equalisation import HEADROOM, Group, equalise, find_groups
from slimscan_train.fit import predict_logits
from slimscan_train.model import normalise_pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def network() -> Callable[..., Any]:
    """Every kind of chain: a plain convolution, a depthwise one, a residual sum, a biased reader without a norm."""
    import tf_keras

    layers = tf_keras.layers

    def build(cap: float | None = None, activation: str = "linear") -> Any:
        tf_keras.utils.set_random_seed(0)

        def normalised(x: Any, name: str) -> Any:
            x = layers.BatchNormalization(name=f"{name}_bn")(x)
            return layers.ReLU(cap, name=f"{name}_relu")(x)

        pixels = layers.Input((16, 16, 1))
        x = normalised(
            layers.Conv2D(8, 3, 2, "same", use_bias=False, name="stem", activation=activation)(pixels), "stem"
        )
        shortcut = x
        x = normalised(layers.DepthwiseConv2D(3, 1, "same", use_bias=False, name="depthwise")(x), "depthwise")
        x = layers.BatchNormalization(name="pointwise_bn")(layers.Conv2D(8, 1, use_bias=False, name="pointwise")(x))
        x = layers.ReLU(cap, name="sum_relu")(layers.Add(name="sum")([shortcut, x]))
        x = layers.ReLU(cap, name="biased_relu")(layers.Conv2D(6, 1, name="biased")(x))
        evidence = layers.Conv2D(1, 1, name="evidence")(x)
        model = tf_keras.Model(pixels, [layers.GlobalAveragePooling2D(name="logits")(evidence), evidence])
        rng = np.random.default_rng(1)
        for layer in model.layers:
            if isinstance(layer, layers.BatchNormalization):
                size = layer.gamma.shape[0]
                layer.set_weights(
                    [np.exp(rng.normal(0, 1.5, size)), rng.normal(0, 0.3, size), np.zeros(size), np.ones(size)]
                )
        return model

    return build


def activations(model: Any, name: str) -> NDArray[np.float32]:
    import tf_keras

    return np.asarray(tf_keras.Model(model.inputs, model.get_layer(name).output)(normalise_pixels(PIXELS)))


def strongest(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each channel, `[..., C]`."""
    return np.abs(values).max(axis=tuple(range(values.ndim - 1)))


def test_chains_are_found_through_norms_sums_and_depthwise_convolutions(network):
    assert find_groups(network()) == (
        Group(
            makers=("stem", "pointwise"),
            passed=("stem_bn", "stem_relu", "pointwise_bn", "sum", "sum_relu"),
            readers=("depthwise", "biased"),
        ),
        Group(makers=("depthwise",), passed=("depthwise_bn", "depthwise_relu"), readers=("pointwise",)),
        Group(makers=("biased",), passed=("biased_relu",), readers=("evidence",)),
    )


@pytest.mark.parametrize("cap", [None, 6.0])
def test_the_float_function_stays_and_the_model_itself_too(network, cap):
    model = network(cap)
    before, weights = predict_logits(model, PIXELS), model.get_weights()
    equalised = equalise(model, PIXELS)
    assert equalised.most[1] > 1.5
    assert np.abs(predict_logits(equalised.model, PIXELS) - before).max() < 1e-4
    assert all(np.array_equal(left, right) for left, right in zip(weights, model.get_weights(), strict=True))


def test_activations_and_the_weights_that_read_them_take_the_same_share_of_their_ranges(network):
    """With f = sqrt(r2 / r1), a channel's activation f r1 and its weight r2 / f are equal up to one factor for all."""
    model = network()
    equalised = equalise(model, PIXELS)
    for relu, reader in (("depthwise_relu", "pointwise"), ("biased_relu", "evidence")):

        def ratio(found: Any, relu: str = relu, reader: str = reader) -> NDArray[np.float64]:
            kernel = np.moveaxis(found.get_layer(reader).kernel.numpy(), -2, -1)
            active, read = strongest(activations(found, relu)), strongest(kernel)
            return (active / read)[active > 0]

        assert np.ptp(np.log(ratio(model))) > 1.0
        assert np.ptp(np.log(ratio(equalised.model))) < 1e-3
        assert strongest(activations(equalised.model, relu)).max() == pytest.approx(
            strongest(activations(model, relu)).max(), rel=1e-4
        )


def test_what_comes_near_the_end_of_a_relu6_keeps_its_scale_and_nothing_else_is_brought_there(network):
    model = network(6.0)
    gain, offset, *statistics = model.get_layer("depthwise_bn").get_weights()
    offset[3] = 5.5
    model.get_layer("depthwise_bn").set_weights([gain, offset, *statistics])
    found = equalise(model, PIXELS).factors["depthwise"]
    into = activations(model, "depthwise_bn").max(axis=(0, 1, 2))
    near = into >= HEADROOM * 6
    assert near.any()
    assert (~near).any()
    assert (found[near] == 1).all()
    assert (found[~near & (into > 0)] != 1).any()
    assert (found * into)[~near].max() <= HEADROOM * 6 * (1 + 1e-6)


def test_dead_channels_are_left_alone(network):
    model = network()
    gain, offset, *statistics = model.get_layer("depthwise_bn").get_weights()
    gain[2], offset[2] = 0.0, -1.0
    model.get_layer("depthwise_bn").set_weights([gain, offset, *statistics])
    found = equalise(model, PIXELS).factors["depthwise"]
    assert found[2] == 1.0
    assert np.isfinite(found).all()


def test_what_a_scale_does_not_pass_through_is_left_alone(network):
    assert "stem" not in {group.makers[0] for group in find_groups(network(activation="sigmoid"))}


@pytest.mark.slow
def test_a_rescaled_network_is_set_right(exported, broken):
    """Its rescaled channel, 1,000 times too weak, is brought back among the others; the function stays."""
    equalised = equalise(broken, exported.calibration)
    assert equalised.most[0] == "block5_depthwise"
    assert equalised.most[1] > 300
    expected = predict_logits(exported.model, exported.calibration)
    assert np.abs(predict_logits(equalised.model, exported.calibration) - expected).max() < 1e-4
