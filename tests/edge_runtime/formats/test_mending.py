"""Files that Pillow refuses though all of their pixels are there; and files that lack some, which stay refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from slimscan_edge.errors import ImageError
from slimscan_edge.formats.mending import mend
from slimscan_edge.preprocess import PreprocessSpec, decode, read_header

SPEC = PreprocessSpec(height=8, width=8)
END = b"\xff\xd9"


def waves(height: int, width: int) -> Image.Image:
    down, across = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.rint(127.5 + 127.5 * np.sin(down / 7.0) * np.cos(across / 5.0)).astype(np.uint8))


def pixels(raw: bytes) -> np.ndarray:
    return np.asarray(decode(raw, SPEC))


JPEGS = [
    {},
    {"progressive": True},
    {"optimize": True, "quality": 95},
    {"restart_marker_blocks": 4},
    {"restart_marker_rows": 1, "progressive": True},
]


@pytest.mark.parametrize("options", JPEGS, ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_may_lack_its_end_and_nothing_else(encode, options, mode):
    raw = encode(waves(77, 91).convert(mode), "JPEG", **options)
    assert raw.endswith(END)
    whole = pixels(raw)
    for lacking in (raw[:-1], raw[:-2], raw[:-2] + bytes(100)):
        assert (pixels(lacking) == whole).all()
    for length in (*range(len(raw) - 40, len(raw) - 6), *range(2, len(raw) - 6, 53)):
        with pytest.raises(ImageError):
            decode(raw[:length], SPEC)


def test_a_progressive_jpeg_that_ends_between_two_scans_is_not_whole(encode):
    raw = encode(waves(77, 91), "JPEG", progressive=True)
    scans = [at for at in range(len(raw) - 1) if raw[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 2
    for begin in scans:
        tables = max((at for at in range(begin) if raw[at : at + 2] == b"\xff\xc4"), default=begin)
        for cut in (begin, tables):
            assert mend(raw[:cut]) is None


def test_a_jpeg_that_ends_between_two_restart_intervals_is_not_whole(encode):
    raw = encode(waves(77, 91), "JPEG", restart_marker_blocks=4)
    restarts = [at for at in range(len(raw) - 1) if raw[at] == 0xFF and 0xD0 <= raw[at + 1] <= 0xD7]
    assert len(restarts) > 10
    for at in restarts:
        assert mend(raw[:at]) is None
        assert mend(raw[: at + 2]) is None


def test_texts_and_profiles_of_a_png_are_not_needed(encode):
    large = "x" * (2 * 2**20)
    picture = waves(40, 50)
    for add in (
        lambda info: info.add_text("note", large),
        lambda info: info.add_text("note", large, zip=True),
        lambda info: info.add_itxt("note", large, zip=True),
        lambda info: info.add(b"iCCP", b"grey\0\0" + zlib.compress(bytes(2 * 2**20))),
    ):
        info = PngInfo()
        add(info)
        raw = encode(picture, "PNG", pnginfo=info)
        assert (pixels(raw) == pixels(encode(picture, "PNG"))).all()
        assert (read_header(raw).width, read_header(raw).height) == (50, 40)


def test_texts_after_the_pixels_are_not_needed_either(encode):
    plain = encode(waves(40, 50), "PNG")
    content = b"zTXtnote\0\0" + zlib.compress(b"x" * (2 * 2**20))
    chunk = struct.pack(">L", len(content) - 4) + content + struct.pack(">L", zlib.crc32(content))
    raw = plain[:-12] + chunk + plain[-12:]
    assert (pixels(raw) == pixels(plain)).all()


def test_a_png_with_a_large_text_is_still_turned_upright(encode):
    info = PngInfo()
    info.add_text("note", "x" * (2 * 2**20))
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = encode(waves(40, 50), "PNG", pnginfo=info, exif=exif)
    assert decode(raw, SPEC).size == decode(encode(waves(40, 50), "PNG", exif=exif), SPEC).size


def test_a_torn_png_with_a_large_text_stays_refused(encode):
    info = PngInfo()
    info.add_text("note", "x" * (2 * 2**20), zip=True)
    raw = encode(waves(400, 500), "PNG", pnginfo=info)
    with pytest.raises(ImageError, match="damaged or incomplete"):
        decode(raw[: len(raw) // 2], SPEC)


def test_other_files_are_not_mended():
    assert mend(b"") is None
    assert mend(b"BM" + bytes(60)) is None
    assert mend(END[::-1] * 20) is None


# --- JPEG as phones and scanners write it ------------------------------------------------------------------------


def test_the_first_picture_of_a_phones_file_is_read(encode):
    first, second = waves(40, 50), Image.new("L", (40, 50), 7)
    raw = encode(first.convert("RGB"), "MPO", save_all=True, append_images=[second.convert("RGB")])
    assert Image.open(io.BytesIO(raw)).n_frames == 2
    alone = encode(first.convert("RGB"), "JPEG")
    assert np.abs(pixels(raw).astype(int) - pixels(alone)).max() <= 1
    assert (np.asarray(decode(Image.open(io.BytesIO(raw)), SPEC)) == pixels(raw)).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(40, 50), (300, 410)])
def test_a_jpeg_stored_as_rgb_is_the_same_picture(encode, channels, size):
    spec = PreprocessSpec(height=8, width=8, channels=channels, jpeg_oversample=4)
    for picture in (
        waves(*size).convert("RGB"),
        Image.merge("RGB", [waves(*size), *[Image.new("L", size[::-1], 90)] * 2]),
    ):
        raw = encode(picture, "JPEG", keep_rgb=True, quality=95, subsampling=0)
        assert b"Adobe" in raw
        expected = np.asarray(decode(encode(picture, "PNG"), spec)).astype(int)
        assert np.abs(np.asarray(decode(raw, spec)) - expected).max() <= 6


def test_components_that_are_called_rgb_are_so_without_a_mark(encode):
    picture = Image.merge("RGB", [waves(40, 50), Image.new("L", (50, 40), 90), Image.new("L", (50, 40), 20)])
    raw = encode(picture, "JPEG", keep_rgb=True, quality=95, subsampling=0)
    begin = raw.index(b"\xff\xee")
    length = int.from_bytes(raw[begin + 2 : begin + 4], "big")
    unmarked = raw[:begin] + raw[begin + 2 + length :]
    assert (pixels(unmarked) == pixels(raw)).all()
