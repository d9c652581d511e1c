"""Greyscale TIFF of every depth, order, sign and compression: each is the picture of its 8-bit twin."""

import itertools
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.errors import ImageError
from slimscan_edge.preprocess import PreprocessSpec, decode

FULL = PreprocessSpec(height=8, width=8, jpeg_oversample=0)
WIDTH = 45


def twin() -> np.ndarray:
    """Greys from 0 to 255, both of which occur."""
    down, across = np.mgrid[0:34, 0:WIDTH]
    greys = np.rint(127.5 + 127.5 * np.sin(down / 6.0) * np.cos(across / 5.0)).astype(np.uint8)
    greys[0, :2] = 0, 255
    return greys


def greys(raw: bytes) -> np.ndarray:
    return np.asarray(decode(raw, FULL)).astype(int)


def packed(values: np.ndarray, bits: int) -> list[bytes]:
    """Rows of unsigned numbers of some bits, the most significant first."""
    shifts = np.arange(bits - 1, -1, -1)
    return [np.packbits(((row[:, None] >> shifts) & 1).astype(np.uint8).ravel()).tobytes() for row in values]


def tiff(rows: list[bytes], bits: int, *, order: str = "<", strip: int = 34, **tags: int) -> bytes:
    """A TIFF of rows of bytes; tags by name as numbers, 1 where they say nothing else."""
    samples, compression = tags.get("samples", 1), tags.get("compression", 1)
    strips = [b"".join(rows[top : top + strip]) for top in range(0, len(rows), strip)]
    if compression == 8:
        strips = [zlib.compress(content) for content in strips]
    offsets = [8 + sum(map(len, strips[:index])) for index in range(len(strips))]
    entries = {
        256: [WIDTH],
        257: [len(rows)],
        258: [bits] * samples,
        259: [compression],
        262: [tags.get("photometric", 1)],
        273: offsets,
        274: [tags.get("orientation", 1)],
        277: [samples],
        278: [strip],
        279: [len(content) for content in strips],
        317: [tags.get("predictor", 1)],
        339: [tags.get("number", 1)] * samples,
    }
    if "extra" in tags:
        entries[338] = [tags["extra"]]
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    directory, values = struct.pack(f"{order}H", len(entries)), b""
    after = 8 + len(body) + 2 + 12 * len(entries) + 4
    for tag, numbers in sorted(entries.items()):
        content = struct.pack(f"{order}{len(numbers)}L", *numbers)
        if len(numbers) > 1:
            content, values = struct.pack(f"{order}L", after + len(values)), values + content
        directory += struct.pack(f"{order}HHL", tag, 4, len(numbers)) + content
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}L", 8 + len(body)) + body + directory + bytes(4) + values


def rows_of(values: np.ndarray, order: str) -> list[bytes]:
    return [row.tobytes() for row in values.astype(values.dtype.newbyteorder(order))]


ORDERS = list(itertools.product("<>", (1, 8), (0, 1)))


@pytest.mark.parametrize("bits", range(9, 16))
def test_odd_depths(bits):
    values = twin().astype(np.uint32) * (2**bits - 1) // 255
    expected = np.rint(values * 255 / (2**bits - 1))
    for (order, compression, photometric), strip in itertools.product(ORDERS, (34, 5)):
        raw = tiff(
            packed(values, bits), bits, order=order, strip=strip, compression=compression, photometric=photometric
        )
        assert (greys(raw) == (expected if photometric else 255 - expected)).all()


@pytest.mark.parametrize(
    ("values", "number"),
    [
        (twin().astype(np.uint16) * 257, 1),
        (twin().astype(np.int16) * 100 - 9000, 2),
        (twin().astype(np.uint32) * 16843009, 1),  # beyond 2^31
        (twin().astype(np.uint32) + 2**31, 4),  # undefined is unsigned; all of it is beyond
        (twin().astype(np.int32) * 8_000_000 - 10**9, 2),
        (twin().astype(np.float16) / 2, 3),
        (twin().astype(np.float32) * 1.7 - 9, 3),
        (twin().astype(np.float64) * 1e-9 + 3, 3),
    ],
    ids=["uint16", "int16", "uint32", "undefined32", "int32", "float16", "float32", "float64"],
)
def test_whole_bytes(values, number):
    bits = 8 * values.dtype.itemsize
    for (order, compression, photometric), strip in itertools.product(ORDERS, (34, 5)):
        words = {"compression": compression, "photometric": photometric, "number": number}
        raw = tiff(rows_of(values, order), bits, order=order, strip=strip, **words)
        assert (greys(raw) == (twin() if photometric else 255 - twin())).all()


@pytest.mark.parametrize("order", "<>")
def test_differences_are_added_up_again(order):
    whole = twin().astype(np.int16) * 100
    differences = np.diff(whole, axis=1, prepend=np.int16(0))
    raw = tiff(rows_of(differences, order), 16, order=order, compression=8, number=2, predictor=2)
    assert (greys(raw) == twin()).all()
    real = (twin().astype(np.float16) / 2).astype(">f2")
    planes = np.ascontiguousarray(real.view(np.uint8).reshape(34, WIDTH, 2).transpose(0, 2, 1)).reshape(34, -1)
    shuffled = np.diff(planes, axis=1, prepend=np.uint8(0))
    raw = tiff([row.tobytes() for row in shuffled], 16, order=order, compression=8, number=3, predictor=3)
    assert (greys(raw) == twin()).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_alpha_lies_on_black_whether_it_was_multiplied_or_not(dtype):
    most = np.iinfo(dtype).max
    shade, alpha = twin() / 255.0, np.where(np.arange(34) < 20, 1.0, 0.5)[:, None] * np.ones((34, WIDTH))
    full, dimmed, opacity = (np.rint(part * most).astype(dtype) for part in (shade, shade * alpha, alpha))
    expected = np.rint(shade * alpha * 255)
    for order, compression in itertools.product("<>", (1, 8)):
        for extra, values, shown in ((1, dimmed, expected), (2, full, expected), (0, full, twin())):
            both = np.stack([values, opacity], axis=-1).astype(np.dtype(dtype).newbyteorder(order))
            raw = tiff(
                [row.tobytes() for row in both],
                8 * both.dtype.itemsize,
                order=order,
                compression=compression,
                samples=2,
                extra=extra,
            )
            assert np.abs(greys(raw) - shown).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_greys_are_set_upright_as_others_are(orientation):
    deep = tiff(packed(twin().astype(np.uint32) * 16, 12), 12, order=">", orientation=orientation)
    shallow = tiff(rows_of(twin(), "<"), 8, orientation=orientation)
    assert (greys(deep) == greys(shallow)).all()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (tiff([bytes(3 * WIDTH)] * 34, 24), "is TIFF of 1 samples of \\[24\\] bits in greys, which is not read"),
        (tiff([bytes(4 * WIDTH)] * 34, 16, samples=2, extra=2, compression=7), "compression or order"),
        (tiff(packed(twin(), 12), 12, order=">")[:900], "damaged|not a readable"),
    ],
)
def test_what_is_not_read_is_refused_by_name(raw, reason):
    with pytest.raises(ImageError, match=reason):
        decode(raw, FULL)


def test_several_deep_pictures_are_refused():
    raw = bytearray(tiff(packed(twin(), 12), 12, order=">"))
    (directory,) = struct.unpack_from(">L", raw, 4)
    struct.pack_into(">L", raw, directory + 2 + 12 * 12, directory + 4)
    with pytest.raises(ImageError, match="more than one picture"):
        decode(bytes(raw), FULL)


COMPLAINING = """
import sys
from slimscan_edge.errors import ImageError
from slimscan_edge.preprocess import PreprocessSpec, decode
for name in sys.argv[1:]:
    try:
        decode(name, PreprocessSpec())
    except ImageError:
        print("refused")
"""


def test_libtiffs_complaints_stay_off_the_terminal(encode, tmp_path):
    paths = []
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        raw = bytearray(encode(Image.fromarray(twin()), "TIFF", compression=compression))
        raw[40:60] = bytes(range(200, 220))
        paths.append(tmp_path / f"{compression}.tiff")
        paths[-1].write_bytes(raw)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPLAINING, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "refused" in done.stdout
