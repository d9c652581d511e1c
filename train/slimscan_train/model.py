"""The network: a MobileNet-style CNN for grey images, read top to bottom.

Depthwise-separable blocks (Howard et al. 2017, arXiv:1704.04861), with a residual sum wherever the shape stays
(He et al. 2016, arXiv:1512.03385), at a width multiplier. The class activation map (Zhou et al. 2016,
arXiv:1512.04150) comes before pooling: the logit is the mean of the evidence map, so the map explains the answer
exactly and costs nothing.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from slimscan_train.imagenet import Pretrained, build_pretrained

Network = Literal["slimscan", Pretrained]
PIXEL_CENTRE = 128.0
PIXEL_SCALE = 127.5
"""A pixel p enters the network as (p - 128) / 127.5: exactly the int8 grid of scale 1/127.5 and zero point 128,
so that raw uint8 pixels are the quantised input."""

STEM = 16
BLOCKS = (
    # output channels at width 1, stride
    (24, 1),
    (48, 2),
    (48, 1),
    (96, 2),
    (96, 1),
    (152, 2),
    (152, 1),
    (152, 1),
    (152, 1),
    (152, 1),
    (208, 2),
    (208, 1),
)
"""More channels early and fewer late than MobileNetV1 at the same file size: a grey X-ray is told by texture more
than by the many object parts that the late channels of an ImageNet network hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape of the network.

    Attributes:
        network: `slimscan`, small enough for the device; or one with ImageNet weights, a teacher
            (`slimscan_train.imagenet`).
        width: Width multiplier on every channel count of `slimscan`.
        outputs: Logits: 1 (the decision), or 2 (the decision, and the subtype given a positive one).
        dropout: Share of channels dropped before the evidence map, in training.
        batch_norm_momentum: Of the moving statistics; 0.99 and more is too slow for epochs of some 150 steps.
    """

    network: Network = "slimscan"
    width: float = 1.0
    outputs: int = 1
    dropout: float = 0.1
    batch_norm_momentum: float = 0.95

    def __post_init__(self) -> None:
        if self.network not in get_args(Network):
            raise ValueError(f"network is {self.network!r}, expected one of {', '.join(get_args(Network))}")
        if not 0.05 <= self.width <= 2:
            raise ValueError(f"width is {self.width}, expected 0.05 to 2")
        if self.outputs not in (1, 2):
            raise ValueError(f"outputs is {self.outputs}, expected 1 or 2")
        if not 0 <= self.dropout < 1 or not 0 < self.batch_norm_momentum < 1:
            raise ValueError("dropout and batch_norm_momentum must lie between 0 and 1")


def build_model(config: ModelConfig, height: int, width: int, channels: int = 1, *, seed: int = 0) -> Any:
    """Build the network with seeded initial weights; those learnt on ImageNet are loaded apart.

    Args:
        config: Its shape.
        height: Rows of the input.
        width: Columns of the input.
        channels: Channels of the input.
        seed: Of the initial weights.

    Returns:
        A Keras model from float32 `[B, H, W, C]`, pixels as `(p - 128) / 127.5`, to logits `[B, K]` and the
        evidence map `[B, H/32, W/32, K]`.
    """
    import tf_keras

    if config.network != "slimscan":
        return build_pretrained(
            config.network,
            height,
            width,
            channels,
            outputs=config.outputs,
            dropout=config.dropout,
            batch_norm_momentum=config.batch_norm_momentum,
            seed=seed,
        )
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(seed)

    def normalise(x: Any, name: str) -> Any:
        return layers.BatchNormalization(momentum=config.batch_norm_momentum, epsilon=1e-3, name=f"{name}_bn")(x)

    def block(x: Any, filters: int, stride: int, name: str) -> Any:
        shortcut = x
        x = layers.DepthwiseConv2D(3, stride, "same", use_bias=False, name=f"{name}_depthwise")(x)
        x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(normalise(x, f"{name}_depthwise"))
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_pointwise")(x)
        x = normalise(x, f"{name}_pointwise")
        if shortcut.shape == x.shape:
            x = layers.Add(name=f"{name}_sum")([shortcut, x])
        return layers.ReLU(6.0, name=f"{name}_relu")(x)

    pixels = layers.Input((height, width, channels), name="pixels")
    x = layers.Conv2D(_channels(STEM, config.width), 3, 2, "same", use_bias=False, name="stem")(pixels)
    x = layers.ReLU(6.0, name="stem_relu")(normalise(x, "stem"))  # [B, H/2, W/2, 16 w]
    for index, (filters, stride) in enumerate(BLOCKS):
        x = block(x, _channels(filters, config.width), stride, f"block{index}")  # at last [B, H/32, W/32, 208 w]
    x = layers.SpatialDropout2D(config.dropout, seed=seed, rng_type="stateful", name="dropout")(x)
    evidence = layers.Conv2D(config.outputs, 1, name="evidence")(x)  # [B, H/32, W/32, K]
    logits = layers.GlobalAveragePooling2D(name="logits")(evidence)  # [B, K]
    return tf_keras.Model(pixels, [logits, evidence], name="slimscan")


def normalise_pixels(pixels: Any) -> Any:
    """Raw pixels 0 to 255 as the network takes them, float32."""
    import tensorflow as tf

    return (tf.cast(pixels, tf.float32) - PIXEL_CENTRE) / PIXEL_SCALE


def _channels(base: int, width: float) -> int:
    """A channel count at a width multiplier: a multiple of 8, as the int8 kernels like it, at least 8."""
    return max(8, int(base * width + 4) // 8 * 8)
