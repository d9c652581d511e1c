"""Greys of more than 8 bits: which of them become black and white, and all others in between.

A picture without a window of its own is mapped from the range of its greys, outliers apart: a letter of lead that was
painted at the most a sample can hold would leave all others black. An outlier is farther from the 5th or the 95th
percentile than these are from each other, and the range ends with the last grey that is none (the whiskers of Tukey's
box plot, Exploratory Data Analysis, 1977, section 2C, with other percentiles for its quartiles). So the range of a
picture without outliers is that from its least grey to its most.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.preprocess import Refused, strips

PERCENTILES = (5.0, 95.0)
"""Letters and frames at one end of the range take less of a picture than this."""
_MOST_SAMPLES = 2**20
_BITS, _PHOTOMETRIC, _FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2

Parts = Callable[[], Iterable[NDArray[Any]]]
"""Gives the samples of a picture from top to bottom in parts `[rows, width]`, as often as it is called."""


def picture_to_greys(image: Image.Image) -> Image.Image:
    """A picture of mode `I`, `F` or `I;16` in 8 bits, `L`.

    Of TIFF, Pillow takes unsigned samples of 32 bits for signed ones, and deep ones of WhiteIsZero as they are
    (TIFF 6.0, SampleFormat and PhotometricInterpretation).

    Raises:
        Refused: It holds greys that are not finite numbers.
    """
    tags: Any = getattr(image, "tag_v2", {})
    is_unsigned = image.mode == "I" and tags.get(_BITS) == (32,) and _SIGNED not in tags.get(_FORMAT, ())
    dtype = np.uint32 if is_unsigned else None
    greys = parts_to_greys(
        lambda: (np.asarray(strip).view(dtype) if dtype else np.asarray(strip) for _, strip in strips(image)),
        white_is_zero=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
    )
    return Image.fromarray(greys)


def parts_to_greys(parts: Parts, *, white_is_zero: bool = False) -> NDArray[np.uint8]:
    """Greys 0 (black) to 255 (white) of samples of any integer or floating-point type, `[height, width]`.

    Raises:
        Refused: Some are not finite numbers.
    """
    low, high = _range(parts)
    black, white = (high, low) if white_is_zero else (low, high)
    return np.concatenate([_mapped(part, black, white) for part in parts()])


def fences(values: NDArray[Any], counts: NDArray[np.int64]) -> tuple[float, float]:
    """What lies below the first or above the second is an outlier.

    Args:
        values: Greys in ascending order.
        counts: How often each occurs.
    """
    counted = np.cumsum(counts)
    low, high = (share / 100.0 * float(counted[-1]) for share in PERCENTILES)
    least = float(values[np.searchsorted(counted, low, side="right")])
    most = float(values[np.searchsorted(counted, high)])
    if least == most:  # nearly all of one grey, which tells nothing of the others
        return -np.inf, np.inf
    return least - (most - least), most + (most - least)


def _range(parts: Parts) -> tuple[float, float]:
    """The least and the most grey that is no outlier."""
    bounds = [(float(part.min()), float(part.max())) for part in parts()]
    low, high = float(np.min(bounds)), float(np.max(bounds))
    if not np.isfinite(high - low):
        raise Refused("is damaged or incomplete (it has grey levels that are not finite numbers); export it again")
    below, above = _fences_of(parts)
    if low < below:
        low = min(float(inside.min()) for part in parts() if (inside := part[part >= below]).size)
    if high > above:
        high = max(float(inside.max()) for part in parts() if (inside := part[part <= above]).size)
    return low, high


def _fences_of(parts: Parts) -> tuple[float, float]:
    """Fences of all samples of 16 bits, and of a regular part of deeper ones, which cannot be counted at once."""
    first = next(iter(parts()))
    if first.dtype.itemsize == 2 and first.dtype.kind in "iu":
        offset = 2**15 if first.dtype.kind == "i" else 0
        counts = sum(np.bincount(part.ravel().astype(np.int64) + offset, minlength=2**16) for part in parts())
        return fences(np.arange(-offset, 2**16 - offset), np.asarray(counts))
    height = sum(len(part) for part in parts())
    step = max(1, round((height * first.shape[1] / _MOST_SAMPLES) ** 0.5))
    samples = np.sort(np.concatenate([part[::step, ::step].ravel() for part in parts()]).astype(np.float64))
    return fences(samples, np.ones(len(samples), np.int64))


def _mapped(part: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    if white == black:
        return np.zeros(part.shape, np.uint8)
    scaled = (part.astype(np.float64) - black) * (255.0 / (white - black))
    return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)
