"""Files that Pillow refuses though all of their pixels are there.

A PNG may carry more text or a larger colour profile than Pillow unpacks; neither is needed. A JPEG may lack the mark of
its end, as some cameras and broken transfers leave it; it is given one if no part of the picture is missing.
"""

import io
import re
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
_JPEG, _END, _MARKER = b"\xff\xd8", b"\xff\xd9", 0xFF
_BASELINE, _PROGRESSIVE = frozenset({0xC0, 0xC1}), 0xC2
_SCAN, _RESTART_INTERVAL = 0xDA, 0xDD
_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_FILLERS = (b"\x00", b"\x55", b"\xaa")
"""What a codec could read on from, past the last byte: the first missing bit is 0 in two of them and 1 in the third."""
_LONGEST_FILLER = 4096


def mend(raw: bytes) -> bytes | None:
    """The same picture in a form that Pillow reads; None if that is not to be had."""
    if raw.startswith(_PNG):
        return _without_texts(raw)
    if raw.startswith(_JPEG):
        return _with_end(raw)
    return None


def _without_texts(raw: bytes) -> bytes | None:
    """A PNG without its texts and its colour profile; None if it has none."""
    kept, position, last = [_PNG], len(_PNG), len(_PNG)
    while position + 12 <= len(raw):
        length, kind = struct.unpack_from(">L4s", raw, position)
        end = position + 12 + length
        if kind in _TEXTS:
            kept.append(raw[last:position])
            last = end
        position = end
    kept.append(raw[last:])
    return b"".join(kept) if len(kept) > 2 else None


def _with_end(raw: bytes) -> bytes | None:
    """A JPEG with the mark of its end; None if any of the picture is missing before it.

    All is there if each coefficient has been sent to its last bit, and what follows the last byte makes no difference.
    """
    raw = raw.rstrip(b"\xff")  # of the mark that half of is missing
    if not _is_sent_in_full(raw):
        return None
    pictures = []
    for filler in _FILLERS:
        with Image.open(io.BytesIO(raw + filler * _LONGEST_FILLER + _END), formats=("JPEG",)) as image:
            pictures.append(np.asarray(image))
    if all((picture == pictures[0]).all() for picture in pictures[1:]):
        return raw + _END
    return None


def _is_sent_in_full(raw: bytes) -> bool:
    """Whether the scans of a JPEG bring each coefficient of each component to its last bit (ITU-T T.81, G.1).

    And whether the last scan has all of its restart intervals, for a codec fills in those that are missing.
    """
    missing: set[tuple[int, int]] | None = None
    frame, scan, interval, data = b"", b"", 0, 0
    for marker, content, end in _segments(raw):
        if marker in _BASELINE or marker == _PROGRESSIVE:
            frame, missing = content, {(component, place) for component in content[6::3] for place in range(64)}
        elif marker == _RESTART_INTERVAL:
            (interval,) = struct.unpack(">H", content)
        elif marker == _SCAN and missing is not None:
            scan, data = content, end
            first, last, bits = content[-3:]
            if bits & 0x0F == 0:  # down to the last bit
                missing -= {(part, place) for part in content[1:-3:2] for place in range(first, last + 1)}
    if missing != set():
        return False
    restarts = len(re.findall(rb"\xff[\xd0-\xd7]", raw[data:]))
    return not interval or restarts == -(-_units(frame, scan) // interval) - 1


def _units(frame: bytes, scan: bytes) -> int:
    """How many units a scan is coded in: blocks of one component, or groups of several (ITU-T T.81, A.2)."""
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    factors = {part: (factor >> 4, factor & 0x0F) for part, factor in zip(frame[6::3], frame[7::3], strict=True)}
    across, down = (max(factor[axis] for factor in factors.values()) for axis in (0, 1))
    if scan[0] > 1:
        return -(-width // (8 * across)) * -(-height // (8 * down))
    own = factors[scan[1]]
    columns, rows = -(-width * own[0] // across), -(-height * own[1] // down)
    return -(-columns // 8) * -(-rows // 8)


def _segments(raw: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Markers, contents and ends of segments over all scans, as far as they are whole (ITU-T T.81, B.1.1.4)."""
    position = 2
    while (position := raw.find(_MARKER, position)) >= 0 and position + 4 <= len(raw):
        marker = raw[position + 1]
        if marker == _MARKER or marker in _WITHOUT_LENGTH:
            position += 1 if marker == _MARKER else 2
            continue
        (length,) = struct.unpack_from(">H", raw, position + 2)
        if position + 2 + length > len(raw):
            return
        yield marker, raw[position + 4 : position + 2 + length], position + 2 + length
        position += 2 + length
