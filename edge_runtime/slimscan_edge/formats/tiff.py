"""TIFF: as Pillow reads it, and deep greys that Pillow does not know.

It knows some depths of greys in some byte orders only, no floats of 16 bits, and compressed big-endian ones wrongly.
Such a picture is given to it once more under a directory of our own, which calls each byte of a row a pixel: what comes
back is unpacked from strips or tiles and decompressed, and is made numbers here (TIFF 6.0; Adobe Photoshop TIFF
Technical Note 3 for the predictor of floats).
"""

import contextlib
import ctypes
import functools
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from slimscan_edge.formats.deep import parts_to_greys
from slimscan_edge.preprocess import STRIP_PIXELS, Refused, require_pixels, turned_upright

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS, _PLANAR = 273, 274, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 317, 322, 323, 324, 325
_EXTRA, _FORMAT = 338, 339
_KEPT = (_HEIGHT, _COMPRESSION, _FILL_ORDER, _STRIP_OFFSETS, _ROWS_PER_STRIP, _STRIP_COUNTS)
_KEPT_OF_TILES = (_TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS)
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_OF_BYTES = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Compressions that know nothing of samples: none, LZW, deflate (twice), PackBits, LZMA, Zstandard."""
_ASSOCIATED, _UNASSOCIATED = 1, 2
_LONG = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Greys:
    """How deep greys lie in a file, by its directory."""

    width: int
    height: int
    bits: int
    number: str
    samples: int
    extra: int
    order: str
    white_is_zero: bool
    predictor: int
    tile_width: int

    @property
    def row_bytes(self) -> int:
        """Of a row of whole tiles, which may reach over the picture's edge."""
        columns = -(-self.width // self.tile_width) * self.tile_width
        return (columns * self.samples * self.bits + 7) // 8


def open_tiff(raw: bytes) -> Image.Image:
    """Open a TIFF: what Pillow knows is not yet decoded; deep greys that it does not know are, as `L`.

    Raises:
        Refused: It is of greys that are not read, or of more pixels than are allowed.
        Exception: Whatever Pillow and its codecs raise on damaged files.
    """
    _silence_libtiff()
    try:
        image = Image.open(io.BytesIO(raw), formats=("TIFF",))
    except UnidentifiedImageError:
        if (directory := _read_directory(raw)) is None:
            raise
        return _decode(raw, *directory)
    if _has_bytes_swapped_twice(image) and (directory := _read_directory(raw)) is not None:
        return _decode(raw, *directory)
    image.decodermaxblock = len(raw)  # all at once rather than by blocks
    return image


@functools.cache
def _silence_libtiff() -> None:
    """Keep libtiff's complaints off the terminal: Pillow turns its warnings off, but not its errors."""
    from PIL import _imaging

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _has_bytes_swapped_twice(image: Any) -> bool:
    """Whether Pillow calls samples big-endian that libtiff has already brought to the order of this machine."""
    return image.mode in ("I", "F") and image.tag_v2.prefix == b"MM" and image.tag_v2.get(_COMPRESSION, 1) != 1


def _read_directory(raw: bytes) -> tuple[_Greys, dict[int, Any]] | None:
    """How the greys lie, and the directory that says so; None if it is none of deep greys.

    Raises:
        Refused: Their depth, number or compression is not read.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    if raw[2:4] not in (b"*\0", b"\0*"):
        return None
    directory = ImageFileDirectory_v2(raw[:8])
    file = io.BytesIO(raw)
    start = directory.next
    file.seek(start)
    directory.load(file)
    if directory.next == start:  # it is cut off
        return None
    if directory.next:
        raise Refused("holds more than one picture; save the one to be read by itself")
    tags: dict[int, Any] = dict(directory)
    samples, photometric = int(tags.get(_SAMPLES, 1)), tags.get(_PHOTOMETRIC)
    bits, formats = set(tags.get(_BITS, (1,))), set(tags.get(_FORMAT, (_UNSIGNED,)))
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
        return None
    (depth,), (kind,) = (bits, formats) if len(bits) == len(formats) == 1 else ((0,), (0,))
    number = {_UNSIGNED: "u", _UNDEFINED: "u", _SIGNED: "i", _FLOAT: "f"}.get(kind, "")
    is_read = depth in ((16, 32, 64) if number == "f" else (*range(9, 17), 32) if number == "u" else (8, 16, 32))
    if not (number and is_read and samples in (1, 2) and (samples == 1 or depth % 8 == 0)):
        raise Refused(f"is TIFF of {samples} samples of {sorted(bits)} bits in greys, which is not read")
    if tags.get(_COMPRESSION, 1) not in _OF_BYTES or tags.get(_PLANAR, 1) != 1:
        raise Refused("is TIFF of deep greys in a compression or order of planes that is not read; save it without")
    greys = _Greys(
        width=int(tags[_WIDTH]),
        height=int(tags[_HEIGHT]),
        bits=depth,
        number=number,
        samples=samples,
        extra=int(tags.get(_EXTRA, (0,))[0]),
        order="<" if raw[:2] == b"II" else ">",
        white_is_zero=photometric == _WHITE_IS_ZERO,
        predictor=int(tags.get(_PREDICTOR, 1)),
        tile_width=int(tags.get(_TILE_WIDTH, tags[_WIDTH])),
    )
    require_pixels(greys.width, greys.height)
    return greys, tags


def _decode(raw: bytes, greys: _Greys, tags: dict[int, Any]) -> Image.Image:
    rows = np.asarray(Image.open(io.BytesIO(_of_bytes(greys, tags, raw)), formats=("TIFF",)))

    def numbers() -> Iterator[NDArray[Any]]:
        step = max(1, STRIP_PIXELS // greys.width)
        for top in range(0, greys.height, step):
            yield _numbers(rows[top : top + step], greys)

    def shades() -> Iterator[NDArray[Any]]:
        return (part[:, :, 0] for part in numbers())

    shown = parts_to_greys(shades, white_is_zero=greys.white_is_zero)
    if greys.samples == 2 and greys.extra == _UNASSOCIATED:
        most = 1.0 if greys.number == "f" else 2.0**greys.bits - 1.0
        opacity = np.concatenate([np.clip(part[:, :, 1].astype(np.float64) / most, 0.0, 1.0) for part in numbers()])
        shown = np.rint(shown * opacity).astype(np.uint8)
    return turned_upright(Image.fromarray(shown), tags.get(_ORIENTATION, 1))


def _of_bytes(greys: _Greys, tags: dict[int, Any], raw: bytes) -> bytes:
    """The same file with a directory that calls each byte of a row a pixel of 8 bits."""
    entries = {
        **{tag: tags[tag] for tag in _KEPT if tag in tags},
        _WIDTH: greys.row_bytes,
        _BITS: 8,
        _PHOTOMETRIC: _BLACK_IS_ZERO,
        _SAMPLES: 1,
        _PLANAR: 1,
    }
    if _TILE_WIDTH in tags:
        entries |= {tag: tags[tag] for tag in _KEPT_OF_TILES}
        entries[_TILE_WIDTH] = greys.tile_width * greys.samples * greys.bits // 8
    begin = len(raw) + len(raw) % 2
    directory, values = struct.pack(f"{greys.order}H", len(entries)), b""
    at = begin + 2 + 12 * len(entries) + 4
    for tag, value in sorted(entries.items()):
        numbers = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"{greys.order}{len(numbers)}L", *numbers)
        if len(numbers) > 1:
            packed, values = struct.pack(f"{greys.order}L", at + len(values)), values + packed
        directory += struct.pack(f"{greys.order}HHL", tag, _LONG, len(numbers)) + packed
    header = raw[:4] + struct.pack(f"{greys.order}L", begin)
    return header + raw[8:] + b"\0" * (begin - len(raw)) + directory + bytes(4) + values


def _numbers(rows: NDArray[np.uint8], greys: _Greys) -> NDArray[Any]:
    """Samples `[rows, width, samples]` of rows of bytes."""
    bits = greys.tile_width * greys.samples * greys.bits
    lefts = range(0, 8 * greys.row_bytes, bits) if bits % 8 == 0 else (0,)  # one strip's rows may end within a byte
    parts = [_unpacked(rows[:, left // 8 : -((left + bits) // -8)], greys) for left in lefts]
    return np.concatenate(parts, axis=1)[:, : greys.width]


def _unpacked(rows: NDArray[np.uint8], greys: _Greys) -> NDArray[Any]:
    """Samples of what lay in one strip or tile."""
    if greys.bits % 8:
        return _from_bits(rows, greys.bits)[:, :, np.newaxis]
    size = greys.bits // 8
    count = rows.shape[1] // size // greys.samples
    if greys.predictor == 3:
        shuffled = np.cumsum(rows.reshape(len(rows), -1, greys.samples), axis=1, dtype=np.uint8)
        planes = shuffled.reshape(len(rows), size, -1)  # the most significant bytes of all samples first
        ordered = np.ascontiguousarray(planes.transpose(0, 2, 1))
        return ordered.view(f">f{size}").reshape(len(rows), count, greys.samples)
    ordered = np.ascontiguousarray(rows)
    numbers = ordered.view(f"{greys.order}{greys.number}{size}").reshape(len(rows), count, greys.samples)
    if greys.predictor == 2:
        native = ordered.view(f"{greys.order}u{size}").reshape(numbers.shape).astype(f"u{size}")
        return np.cumsum(native, axis=1, dtype=native.dtype).view(f"{greys.number}{size}")
    return numbers.astype(f"{greys.number}{size}")


def _from_bits(rows: NDArray[np.uint8], bits: int) -> NDArray[np.uint16]:
    """Unsigned numbers of some bits each, packed one after another, the most significant bit first."""
    count = 8 * rows.shape[1] // bits
    unpacked = np.unpackbits(rows, axis=1)[:, : count * bits].reshape(len(rows), count, bits)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    return np.asarray(unpacked @ weights, np.uint16)
