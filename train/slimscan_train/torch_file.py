"""Reading weights that PyTorch before version 1.6 saved, without PyTorch: that is hundreds of megabytes to install."""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle in a file of the old format."""


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
