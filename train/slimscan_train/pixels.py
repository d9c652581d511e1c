"""Images decoded once, through the device's own preprocessing, into a cache that is read at memory speed.

The cache is keyed by the content of the images, the `PreprocessSpec`, the named shift and the versions of slimscan
and of the decoders: change any of them and it is made anew. Only what is whole is kept: where an image cannot be
decoded, it may be this machine that lacks something.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.cores import usable_cores
from slimscan_edge.errors import ImageError, InputError
from slimscan_edge.files import Unreadable
from slimscan_edge.preprocess import PreprocessSpec, decode, fit_to_input

Shift = Callable[[Image.Image], Image.Image]

_DECODERS = ("slimscan", "pillow", "pydicom", "python-gdcm")


def cache_folder() -> Path:
    """`$SLIMSCAN_CACHE`, else `slimscan` in the user's cache folder."""
    if given := os.environ.get("SLIMSCAN_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slimscan"


def load_pixels(
    files: Sequence[Path],
    digests: Sequence[str],
    spec: PreprocessSpec,
    *,
    shift: Shift | None = None,
    shift_name: str = "",
) -> tuple[NDArray[np.uint8], tuple[Unreadable, ...]]:
    """Pixels of images, from the cache when it has them all.

    Args:
        files: Image files.
        digests: SHA-256 of each file.
        spec: The preprocessing.
        shift: Applied to the decoded picture before it is fitted to the input.
        shift_name: Names the shift in the cache's key.

    Returns:
        uint8 `[N, H, W, C]`, read-only and memory-mapped, and the images that could not be decoded (their
        pixels are zero).

    Raises:
        InputError: The cache cannot be written.
    """
    kept = cache_folder() / f"{_key(digests, spec, shift_name)}.npy"
    if (found := _read(kept)) is not None:
        return found, ()
    pixels, bad = _decode(files, digests, spec, shift)
    if bad:
        return pixels, bad
    _keep(kept, pixels)
    return np.load(kept, mmap_mode="r"), ()


def refuse_unreadable(unreadable: Sequence[Unreadable], total: int, allowed_share: float) -> None:
    """Stop when too many images cannot be decoded.

    Raises:
        InputError: The share is above `allowed_share`; every such image is listed with its reason.
    """
    if len(unreadable) > allowed_share * total:
        listed = "".join(f"\n  {bad.path}: {bad.reason}" for bad in unreadable[:20])
        more = f"\n  and {len(unreadable) - 20} more" if len(unreadable) > 20 else ""
        raise InputError(
            f"{len(unreadable)} of {total} images cannot be read, at most {allowed_share:.1%} may; "
            f"repair or remove them, or raise --max-unreadable:{listed}{more}"
        )


def _decode(
    files: Sequence[Path], digests: Sequence[str], spec: PreprocessSpec, shift: Shift | None
) -> tuple[NDArray[np.uint8], tuple[Unreadable, ...]]:
    pixels = np.zeros((len(files), spec.height, spec.width, spec.channels), np.uint8)
    bad: list[tuple[int, str]] = []

    def read(index: int) -> None:
        try:
            image = decode(files[index], spec)
            pixels[index] = fit_to_input(shift(image) if shift else image, spec)
        except ImageError as exc:
            bad.append((index, str(exc)))
        else:
            if hashlib.sha256(files[index].read_bytes()).hexdigest() != digests[index]:
                pixels[index] = 0
                bad.append((index, f"{files[index]} is not what it was (its SHA-256 differs); put it back"))

    pool = ThreadPoolExecutor(usable_cores())  # Pillow decodes and resizes without the interpreter's lock
    try:
        list(pool.map(read, range(len(files))))
    finally:
        pool.shutdown(cancel_futures=True)  # a person who stops does not wait for the images in the queue
    return pixels, tuple(Unreadable(path=str(files[index]), reason=reason) for index, reason in sorted(bad))


def _read(kept: Path) -> NDArray[np.uint8] | None:
    """What is kept in a file; None when there is none, or a power cut took its end."""
    try:
        found: NDArray[np.uint8] = np.load(kept, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return found


def _keep(kept: Path, pixels: NDArray[np.uint8]) -> None:
    partial = kept.with_suffix(f".{os.getpid()}.npy")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.save(partial, pixels)
            partial.replace(kept)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as exc:
        raise InputError(
            f"the cache {kept.parent} cannot be written ({exc.strerror or exc}); make room, or set SLIMSCAN_CACHE to "
            "another folder"
        ) from exc


def _key(digests: Sequence[str], spec: PreprocessSpec, shift_name: str) -> str:
    versions = [_version(name) for name in _DECODERS]
    content = json.dumps([list(digests), asdict(spec), shift_name, versions])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
