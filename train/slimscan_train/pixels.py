"""Images decoded once, through the device's own preprocessing, into a cache that is read at memory speed.

The cache is keyed by the content of the images, the `PreprocessSpec`, the named shift and the version of
Pillow: change any of them and it is made anew.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.errors import ImageError, InputError
from slimscan_edge.preprocess import PreprocessSpec, decode, fit_to_input

Shift = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An image that could not be decoded, and why."""

    path: str
    reason: str


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
    """
    key = _key(digests, spec, shift_name)
    pixels_file, listing = cache_folder() / f"{key}.npy", cache_folder() / f"{key}.json"
    if not (pixels_file.exists() and listing.exists()):
        _fill(pixels_file, listing, files, spec, shift)
    pixels: NDArray[np.uint8] = np.load(pixels_file, mmap_mode="r")
    bad = json.loads(listing.read_text())
    return pixels, tuple(Unreadable(path=str(files[index]), reason=reason) for index, reason in bad)


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


def _fill(pixels_file: Path, listing: Path, files: Sequence[Path], spec: PreprocessSpec, shift: Shift | None) -> None:
    pixels = np.zeros((len(files), spec.height, spec.width, spec.channels), np.uint8)
    bad: list[tuple[int, str]] = []

    def read(index: int) -> None:
        try:
            image = decode(files[index], spec)
            pixels[index] = fit_to_input(shift(image) if shift else image, spec)
        except ImageError as exc:
            bad.append((index, str(exc)))

    pool = ThreadPoolExecutor(os.cpu_count())  # Pillow decodes and resizes without the interpreter's lock
    try:
        list(pool.map(read, range(len(files))))
    finally:
        pool.shutdown(cancel_futures=True)  # a person who stops does not wait for the images in the queue
    pixels_file.parent.mkdir(parents=True, exist_ok=True)
    partial = pixels_file.with_suffix(f".{os.getpid()}.npy")
    np.save(partial, pixels)
    partial.replace(pixels_file)
    partial = listing.with_suffix(f".{os.getpid()}.json")
    partial.write_text(json.dumps(sorted(bad)))
    partial.replace(listing)


def _key(digests: Sequence[str], spec: PreprocessSpec, shift_name: str) -> str:
    content = json.dumps([list(digests), asdict(spec), shift_name, PIL.__version__])
    return hashlib.sha256(content.encode()).hexdigest()[:32]
