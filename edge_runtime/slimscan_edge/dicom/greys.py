"""DICOM's greyscale pipeline: from stored values to greys of 8 bits, as the device that took the picture meant them.

Stored values go through the modality table or rescaling, then through the first VOI table or window (PS3.4, N.2), whose
whole range becomes 0 to 255; MONOCHROME1 is then turned around. Without table and window, values of up to 8 bits that
are not rescaled keep the range of their bits, and all others are mapped linearly from their own range, as in any deep
picture (`slimscan_edge.formats.deep`). As all of that is done to each value by itself, it is done once, to a table of
all values that can be stored.

Pixels that only pad the picture (PS3.3, C.7.5.1.1.2) play no part in its range and are black at the end.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.dicom.header import Layout, number, words

if TYPE_CHECKING:
    from pydicom import Dataset

_PIXELS_AT_ONCE = 2**20
"""Pixels that go through a table together: each takes eight bytes as an index."""


def to_greys(stored: NDArray[Any], header: "Dataset", layout: Layout) -> NDArray[np.uint8]:
    """Greys 0 (black) to 255 (white), `[rows, columns]`, of stored values of 8 or 16 bits, signed or not.

    Raises:
        ValueError: A table, a window or a rescaling makes no sense.
        KeyError: A table lacks a part.
    """
    words = _all_words(stored.dtype)
    padding = _padding(words, header, layout)
    values, is_rescaled = _modality(_all_values(stored.dtype, layout), header, layout)
    shown = _voi(values, header, layout)
    if shown is None and layout.bits_stored <= 8 and not is_rescaled and not layout.is_signed:
        shown = np.clip(values / (2**layout.bits_stored - 1), 0.0, 1.0)
    if shown is None:
        shown = _own_range(values, _count(stored, len(values)) * ~padding)
    greys: NDArray[np.uint8] = np.rint(shown * 255.0).astype(np.uint8)
    if layout.photometric == "MONOCHROME1":
        greys = 255 - greys
    greys[padding] = 0
    return _through(greys, stored)


def to_colours(stored: NDArray[Any], header: "Dataset", layout: Layout) -> NDArray[np.uint8]:
    """Colours, RGB `[rows, columns, 3]`, 0 to 255, of the entries of a palette (PS3.3, C.7.6.3.1.5).

    Raises:
        ValueError: A table makes no sense.
        KeyError: A table is absent.
    """
    values, channels = _all_values(stored.dtype, layout), []
    for colour in ("Red", "Green", "Blue"):
        shown = _look_up(values, header, layout, table=f"{colour}PaletteColorLookupTable")
        channels.append(np.rint(np.clip(shown, 0.0, 1.0) * 255.0).astype(np.uint8))
    return _through(np.stack(channels, axis=-1), stored)


def _all_words(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Every number of an integer type, in the order of its bits read as an unsigned one."""
    return np.arange(256**dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)


def _all_values(dtype: np.dtype[Any], layout: Layout) -> NDArray[np.float64]:
    """What each of these numbers stands for: bits beyond those stored are no part of a value."""
    words = _all_words(dtype)
    beyond = max(0, 8 * dtype.itemsize - layout.bits_stored)
    values: NDArray[np.float64] = np.right_shift(np.left_shift(words, beyond), beyond).astype(np.float64)
    return values


def _padding(words: NDArray[Any], header: "Dataset", layout: Layout) -> NDArray[np.bool_]:
    """Which numbers only pad a picture: one, or all from that one to a limit, in all of their bits."""
    first = _padding_word(header, "PixelPaddingValue", words.dtype)
    if first is None:
        return np.zeros(len(words), np.bool_)
    last = _padding_word(header, "PixelPaddingRangeLimit", words.dtype)
    low, high = sorted((first, first if last is None else last))
    values = _all_values(words.dtype, layout)
    return ((words >= low) & (words <= high)) | ((values >= low) & (values <= high))


def _padding_word(header: "Dataset", keyword: str, dtype: np.dtype[Any]) -> int | None:
    """An element's number in the bits of a stored one: some write -2000 unsigned, and 63536 signed."""
    value = number(header, keyword)
    if value is None:
        return None
    return int(np.array(int(value) % 256**dtype.itemsize, f"u{dtype.itemsize}").view(dtype))


def _rows_at_once(stored: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The places of stored values among all values, some rows at a time."""
    places, rows = stored.view(f"u{stored.dtype.itemsize}"), max(1, _PIXELS_AT_ONCE // stored.shape[1])
    for top in range(0, len(places), rows):
        yield slice(top, top + rows), places[top : top + rows]


def _through(table: NDArray[np.uint8], stored: NDArray[Any]) -> NDArray[np.uint8]:
    """What a table of all values says of each stored one."""
    result = np.empty((*stored.shape, *table.shape[1:]), np.uint8)
    for rows, places in _rows_at_once(stored):
        result[rows] = table[places]
    return result


def _count(stored: NDArray[Any], kinds: int) -> NDArray[np.int64]:
    """How often each of all numbers occurs."""
    counts = np.zeros(kinds, np.int64)
    for _, places in _rows_at_once(stored):
        counts += np.bincount(places.ravel(), minlength=kinds)
    return counts


def _own_range(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """All values, such that the least and the most that is no outlier among those counted become 0 and 1."""
    from slimscan_edge.formats.deep import fences

    occurring = counts > 0
    if not occurring.any():
        return np.zeros_like(values)
    order = np.argsort(values[occurring], kind="stable")
    ascending = values[occurring][order]
    below, above = fences(ascending, counts[occurring][order])
    inside = ascending[(ascending >= below) & (ascending <= above)]
    low, high = inside[0], inside[-1]
    return np.clip((values - low) / (high - low), 0.0, 1.0) if high > low else np.zeros_like(values)


def _modality(values: NDArray[np.float64], header: "Dataset", layout: Layout) -> tuple[NDArray[np.float64], bool]:
    """Stored values as the modality means them (PS3.3, C.11.1), and whether that changes them."""
    if tables := _tables(header, "ModalityLUTSequence"):
        bits = _descriptor(tables[0], "LUTDescriptor", layout)[2]
        return _look_up(values, tables[0], layout) * (2**bits - 1), True
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    if slope is None or intercept is None:
        return values, False
    if slope == 0.0:
        raise ValueError("its RescaleSlope is 0")
    return values * slope + intercept, (slope, intercept) != (1.0, 0.0)


def _voi(values: NDArray[np.float64], header: "Dataset", layout: Layout) -> NDArray[np.float64] | None:
    """Values of interest, 0 to 1, by the first table or else the first window (PS3.3, C.11.2); None without either."""
    if tables := _tables(header, "VOILUTSequence"):
        return np.clip(_look_up(values, tables[0], layout), 0.0, 1.0)
    centre, width = number(header, "WindowCenter"), number(header, "WindowWidth")
    if centre is None or width is None:
        return None
    return _window(values, centre, width, words(header, "VOILUTFunction") or "LINEAR")


def _tables(header: "Dataset", keyword: str) -> list["Dataset"]:
    """The tables of a sequence; none when it is absent, or its first table is empty."""
    tables = list(header.get(keyword) or ())[:1]
    is_filled = all(bool(table.get(part)) for table in tables for part in ("LUTDescriptor", "LUTData"))
    return tables if is_filled else []


def _window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """A window's output, 0 to 1 (PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1.0
    elif function not in ("LINEAR_EXACT", "SIGMOID"):
        raise ValueError(f"its VOILUTFunction is {function[:16]!r}, expected LINEAR, LINEAR_EXACT or SIGMOID")
    if width < 0.0 or (width == 0.0 and function != "LINEAR"):
        raise ValueError("its WindowWidth is too small")
    if width == 0.0:
        return np.where(values > centre, 1.0, 0.0)
    if function == "SIGMOID":
        shown: NDArray[np.float64] = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
        return shown
    return np.clip((values - centre) / width + 0.5, 0.0, 1.0)


def _look_up(
    values: NDArray[np.float64], item: "Dataset", layout: Layout, *, table: str = "LUT"
) -> NDArray[np.float64]:
    """Values through a table of the data set (PS3.3, C.11.1.1); 1 is the most that an entry can be.

    pydicom's own indices are as narrow as the entries, so that a table of more than 256 entries of 8 bits comes out
    wrong there.
    """
    count, first, bits = _descriptor(item, f"{table}Descriptor", layout)
    entries = _numbers(item, f"{table}Data", count)
    places = np.clip(np.rint(values) - first, 0, count - 1).astype(np.intp)
    shown: NDArray[np.float64] = entries[places] / float(2**bits - 1)
    return shown


def _descriptor(item: "Dataset", keyword: str, layout: Layout) -> tuple[int, int, int]:
    """Number of entries, first value mapped and bits of an entry."""
    count, first, bits = (int(part) for part in _numbers(item, keyword, 3))
    if not 8 <= bits <= 16:
        raise ValueError(f"its {keyword} says {bits} bits an entry, expected 8 to 16")
    is_negative = layout.is_signed and first >= 2**15
    return count or 2**16, first - 2**16 if is_negative else first, bits


def _numbers(item: "Dataset", keyword: str, count: int) -> NDArray[np.uint16]:
    """Numbers of 16 bits, read as unsigned, whether pydicom knows them for numbers or has bytes; or of 8, packed."""
    value = item[keyword].value
    if isinstance(value, bytes):
        order = "<" if item.original_encoding[1] else ">"
        numbers = np.frombuffer(value, f"{order}u2" if len(value) >= 2 * count else "u1")
    else:
        numbers = np.atleast_1d(np.asarray(value, np.int64)) & 0xFFFF
    if len(numbers) < count:
        raise ValueError(f"its {keyword} has {len(numbers)} values, expected {count}")
    return numbers[:count].astype(np.uint16)
