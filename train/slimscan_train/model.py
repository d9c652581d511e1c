"""The network: a MobileNet-style CNN for grey images, read top to bottom.

Depthwise-separable blocks (Howard et al. 2017, arXiv:1704.04861) at a width multiplier. The class activation
map (Zhou et al. 2016, arXiv:1512.04150) comes before pooling: the logit is the mean of the evidence map, so
the map explains the answer exactly and costs nothing.
"""

import os
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # model optimisation needs Keras 2

PIXEL_CENTRE = 128.0
PIXEL_SCALE = 127.5
"""A pixel p enters the network as (p - 128) / 127.5: exactly the int8 grid of scale 1/127.5 and zero point 128,
so that raw uint8 pixels are the quantised input."""

BLOCKS = (
    # output channels at width 1, stride
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape of the network.

    Attributes:
        width: Width multiplier on every channel count.
        outputs: Logits: 1 (the decision), or 2 (the decision, and the subtype given a positive one).
        dropout: Share of channels dropped before the evidence map, in training.
        batch_norm_momentum: Of the moving statistics; 0.99 and more is too slow for epochs of some 150 steps.
    """

    width: float = 0.25
    outputs: int = 1
    dropout: float = 0.1
    batch_norm_momentum: float = 0.95

    def __post_init__(self) -> None:
        if not 0.05 <= self.width <= 2:
            raise ValueError(f"width is {self.width}, expected 0.05 to 2")
        if self.outputs not in (1, 2):
            raise ValueError(f"outputs is {self.outputs}, expected 1 or 2")
        if not 0 <= self.dropout < 1 or not 0 < self.batch_norm_momentum < 1:
            raise ValueError("dropout and batch_norm_momentum must lie between 0 and 1")


def build_model(config: ModelConfig, height: int, width: int, channels: int = 1, *, seed: int = 0) -> Any:
    """Build the network with seeded initial weights.

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

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(seed)

    def normalise(x: Any, name: str) -> Any:
        x = layers.BatchNormalization(momentum=config.batch_norm_momentum, epsilon=1e-3, name=f"{name}_bn")(x)
        return layers.ReLU(6.0, name=f"{name}_relu")(x)

    pixels = layers.Input((height, width, channels), name="pixels")
    x = layers.Conv2D(_channels(32, config.width), 3, 2, "same", use_bias=False, name="stem")(pixels)
    x = normalise(x, "stem")  # [B, H/2, W/2, 32 w]
    for index, (filters, stride) in enumerate(BLOCKS):
        x = layers.DepthwiseConv2D(3, stride, "same", use_bias=False, name=f"block{index}_depthwise")(x)
        x = normalise(x, f"block{index}_depthwise")
        x = layers.Conv2D(_channels(filters, config.width), 1, use_bias=False, name=f"block{index}_pointwise")(x)
        x = normalise(x, f"block{index}_pointwise")  # at last [B, H/32, W/32, 1024 w]
    x = layers.SpatialDropout2D(config.dropout, name="dropout")(x)
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
