import contextlib
import dataclasses
import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps

from slimscan_edge.errors import ImageError
from slimscan_edge.files import image_files
from slimscan_edge.preprocess import (
    MAX_FILE_BYTES,
    MAX_PIXELS,
    PictureHeader,
    PreprocessSpec,
    decode,
    extent_of,
    fit_to_input,
    one_line,
    preprocess,
    printable,
    read_header,
)

SPEC = PreprocessSpec(height=8, width=8)
GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def claim_size(png: bytes, width: int, height: int) -> bytes:
    """A PNG whose header claims another size, with a right checksum: a decompression bomb."""
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


# --- numbers worked out by hand ---------------------------------------------------------------------------------


def test_box_halving_is_the_mean_of_two_by_two():
    pixels = np.tile(np.array([[10, 20], [30, 40]], np.uint8), (8, 8))
    assert (preprocess(pixels, PreprocessSpec(height=8, width=8, resize_filter="box")) == 25).all()


def test_bilinear_halving_is_antialiased():
    # Halving widens the triangle to four pixels with weights 1/8, 3/8, 3/8, 1/8: a step of 240 becomes 30, 210.
    step = np.repeat(np.array([[0] * 8 + [240] * 8], np.uint8), 16, axis=0)
    row = preprocess(step, dataclasses.replace(SPEC, jpeg_oversample=0))[3, :, 0]
    assert row.tolist() == [0, 0, 0, 30, 210, 240, 240, 240]


@pytest.mark.parametrize(
    ("colour", "grey"),
    [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((255, 255, 255), 255)],
)
def test_rgb_becomes_grey_by_the_weights_of_itu_r_601(colour, grey):
    pixels = np.full((8, 8, 3), colour, np.uint8)  # 0.299 R + 0.587 G + 0.114 B
    assert (preprocess(pixels, SPEC) == grey).all()


def test_letterbox_adds_black_bars_on_both_sides():
    wide = np.full((8, 16), 200, np.uint8)
    rows = preprocess(wide, PreprocessSpec(height=8, width=8, fit="letterbox"))[:, 0, 0]
    assert rows.tolist() == [0, 0, 200, 200, 200, 200, 0, 0]


def test_crop_takes_the_middle():
    wide = np.array([[0] * 4 + [200] * 8 + [0] * 4] * 8, np.uint8)
    assert (preprocess(wide, PreprocessSpec(height=8, width=8, fit="crop")) == 200).all()


def test_stretch_keeps_all_of_the_picture():
    wide = np.array([[0] * 4 + [200] * 8 + [0] * 4] * 8, np.uint8)
    row = preprocess(wide, PreprocessSpec(height=8, width=8, resize_filter="box"))[0, :, 0]
    assert row.tolist() == [0, 0, 200, 200, 200, 200, 0, 0]


def test_percentiles_become_black_and_white():
    halves = np.repeat(np.array([[50, 150]], np.uint8), 4, axis=1).repeat(8, axis=0)
    halves[0, 3] = 90  # two fifths of the way stays two fifths of the way
    pixels = preprocess(halves, PreprocessSpec(height=8, width=8, intensity="percentile"))[:, :, 0]
    assert sorted(set(pixels.ravel().tolist())) == [0, 102, 255]


def test_a_uniform_picture_has_no_percentiles_to_stretch():
    flat = np.full((8, 8), 77, np.uint8)
    assert (preprocess(flat, PreprocessSpec(height=8, width=8, intensity="percentile")) == 77).all()


# --- what a file may be -----------------------------------------------------------------------------------------


def test_sixteen_bits_are_mapped_linearly_from_their_own_range(encode):
    deep = np.full((8, 8), 0, np.uint16)
    deep[0, :3] = 1000, 1000 + 51, 1000 + 255
    deep[deep == 0] = 1000
    for raw in (encode(deep, "PNG"), encode(deep, "TIFF")):
        assert preprocess(raw, SPEC)[0, :3, 0].tolist() == [0, 51, 255]


def test_a_uniform_deep_picture_is_black(encode):
    assert (preprocess(encode(np.full((8, 8), 4000, np.uint16), "PNG"), SPEC) == 0).all()


def test_float_greys_are_read_unless_some_are_not_numbers(encode):
    real = np.linspace(-1.0, 1.0, 64, dtype=np.float32).reshape(8, 8)
    assert preprocess(encode(real, "TIFF"), SPEC)[[0, 7], [0, 7], 0].tolist() == [0, 255]
    real[3, 3] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        preprocess(encode(real, "TIFF"), SPEC)


def test_palette_alpha_one_bit_and_cmyk_become_grey(encode):
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    half = Image.new("LA", (8, 8), (255, 128))
    assert (preprocess(encode(red.convert("P"), "PNG"), SPEC) == 76).all()
    assert (preprocess(encode(half, "PNG"), SPEC) == 128).all()  # alpha lies on black
    assert (preprocess(encode(Image.new("1", (8, 8), 1), "PNG"), SPEC) == 255).all()
    assert (preprocess(encode(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG"), SPEC) == 0).all()


@pytest.mark.parametrize(
    ("inks", "colour"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 255, 0), (255, 0, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 0, 0, 100), (155, 155, 155)),
    ],
)
@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_inks_become_colours_also_where_adobe_turns_them_around(encode, file_format, inks, colour):
    raw = encode(Image.new("CMYK", (16, 16), inks), file_format)
    if file_format == "JPEG":
        assert b"Adobe" in raw  # whose CMYK is stored as 255 less the ink
    pixels = preprocess(raw, PreprocessSpec(height=8, width=8, channels=3))
    assert np.abs(pixels.astype(int) - colour).max() <= 3


def test_a_palette_is_looked_up(encode):
    image = Image.fromarray(np.arange(4, dtype=np.uint8).repeat(16).reshape(8, 8)).convert("P")
    image.putpalette([9, 9, 9, 200, 200, 200, 50, 50, 50, 100, 100, 100])
    for file_format in ("PNG", "BMP", "TIFF"):
        assert preprocess(encode(image, file_format), SPEC)[::2, 0, 0].tolist() == [9, 200, 50, 100]


def test_alpha_dims_each_pixel_by_its_own(encode):
    colours = np.full((8, 8, 4), 200, np.uint8)
    colours[:, :, 3] = np.arange(8) * 36
    expected = [round(200 * 36 * column / 255) for column in range(8)]
    greys = colours[:, :, [0, 3]]
    for raw in (encode(colours, "PNG"), encode(colours, "TIFF"), encode(greys, "PNG")):
        assert np.abs(preprocess(raw, SPEC)[5, :, 0] - np.array(expected)).max() <= 1


def test_one_bit_is_black_or_white(encode):
    squares = np.indices((8, 8)).sum(axis=0) % 2 == 1
    for file_format in ("PNG", "TIFF", "BMP"):
        assert (preprocess(encode(squares, file_format), SPEC)[:, :, 0] == squares * 255).all()


def test_deep_tiff_is_read_in_both_byte_orders_and_where_zero_is_white(encode):
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 51
    expected = np.rint(deep * 255.0 / deep.max())
    little, big = encode(deep, "TIFF"), encode(deep.astype(">u2"), "TIFF")
    assert (little[:2], big[:2]) == (b"II", b"MM")
    for raw in (little, big):
        assert (preprocess(raw, SPEC)[:, :, 0] == expected).all()
    turned = encode(deep, "TIFF", tiffinfo={262: 0})  # PhotometricInterpretation: WhiteIsZero
    assert (preprocess(turned, SPEC)[:, :, 0] == np.rint(255 - deep * 255.0 / deep.max())).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "CMYK", "P", "I;16", "F"])
def test_a_large_picture_is_converted_in_strips_as_in_one(mode):
    rows = np.random.default_rng(0).integers(0, 255, (3000, 4), np.uint8)
    small = Image.fromarray(np.repeat(rows, 2, axis=1))
    wide = small.resize((1200, 3000), Image.Resampling.NEAREST)  # 3.6 megapixels of the same columns
    images = [image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode) for image in (small, wide)]
    full = PreprocessSpec(height=8, width=8, jpeg_oversample=0)
    decoded = [np.asarray(decode(image, full)) for image in images]
    assert (decoded[1][:, ::150] == decoded[0]).all()


def test_a_transparent_palette_entry_lies_on_black(encode):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 255, 255])
    assert (preprocess(encode(image, "PNG", transparency=0), SPEC) == 0).all()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied(encode, file_format):
    turned = Image.new("L", (16, 16), 0)
    turned.paste(255, (0, 0, 16, 8))  # white on top as stored; orientation 6 turns it clockwise, to the right
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = encode(turned, file_format, exif=exif)
    pixels = preprocess(raw, PreprocessSpec(height=8, width=8, resize_filter="box"))[:, :, 0]
    assert pixels[:, :3].max() < 30
    assert pixels[:, 5:].min() > 225


def lying(upright: np.ndarray, orientation: int) -> np.ndarray:
    """A picture as a file of an EXIF orientation stores it."""
    stored = {  # CIPA DC-008, Orientation: which side of the upright picture row 0 and column 0 of the file are
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.T,  # left, top
        6: upright[:, ::-1].T,  # right, top
        7: upright[::-1, ::-1].T,  # right, bottom
        8: upright[::-1].T,  # left, bottom
    }[orientation]
    return np.ascontiguousarray(stored)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_every_orientation_is_set_upright(encode, file_format, orientation):
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encode(lying(upright, orientation), file_format, exif=exif)
    assert (np.asarray(decode(raw, SPEC)) == upright).all()


SIZES = [  # around each scale of an input of 24 by 20, and with every rest of a block
    (19, 25), (24, 20), (39, 47), (40, 48), (41, 49), (47, 95), (79, 48), (80, 96), (81, 97), (82, 98), (83, 99),
    (84, 101), (159, 191), (160, 192), (161, 193), (163, 197), (166, 198), (167, 199), (191, 400), (500, 201),
]  # fmt: skip


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_turned_files_of_every_size_are_the_upright_picture_to_a_rounding(encode, height, width, fit):
    spec = PreprocessSpec(height=20, width=24, fit=fit)
    noise = np.random.default_rng(height).integers(0, 255, (height // 6 + 2, width // 6 + 2), np.uint8)
    upright = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
    expected = preprocess(encode(upright, "PNG"), spec).astype(int)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for file_format, most in (("PNG", 0), ("TIFF", 0), ("JPEG", 6)):
            options = {"quality": 100} if file_format == "JPEG" else {}
            raw = encode(lying(upright, orientation), file_format, exif=exif, **options)
            assert np.abs(preprocess(raw, spec) - expected).max() <= most, (file_format, orientation)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("rest", range(16))
def test_the_rest_of_a_block_does_not_stretch_a_picture(encode, file_format, rest):
    slope = np.linspace(0, 255, 64 + rest)
    picture = np.rint((slope[:, np.newaxis] + slope) / 2).astype(np.uint8)
    reduced = preprocess(encode(picture, file_format), SPEC).astype(int)
    assert decode(encode(picture, file_format), SPEC).width < 16
    full = preprocess(picture, dataclasses.replace(SPEC, jpeg_oversample=0))
    assert np.abs(reduced - full).max() <= 4  # of 25 if the rest counted for a whole block


def test_a_part_of_a_reduced_picture_has_an_extent_of_its_own(encode):
    reduced = decode(encode(np.zeros((67, 67), np.uint8), "PNG"), SPEC)
    assert extent_of(reduced) == (67 / 8, 67 / 8)
    assert extent_of(reduced.crop((0, 0, 8, 5))) == (8, 5)
    assert extent_of(Image.new("L", (7, 9))) == (7, 9)
    forged = Image.new("L", (7, 9))
    forged.info["extent"] = "a text in the file"
    assert extent_of(forged) == (7, 9)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(8, 30), st.integers(8, 30), st.sampled_from(["L", "RGB"]))
def test_letterbox_and_crop_are_those_of_pillow(width, height, to_width, to_height, mode):
    image = Image.effect_noise((width, height), 90).convert(mode)
    size, channels = (to_width, to_height), 1 if mode == "L" else 3
    assume(min(width / height * to_height, height / width * to_width) >= 1.0)
    for fit, by_pillow in (("letterbox", ImageOps.pad), ("crop", ImageOps.fit)):
        spec = PreprocessSpec(height=to_height, width=to_width, channels=channels, fit=fit, resize_filter="box")
        expected = np.asarray(by_pillow(image, size, Image.Resampling.BOX)).reshape(to_height, to_width, channels)
        assert np.abs(fit_to_input(image, spec).astype(int) - expected).max() <= 1  # it may begin with the other side


def test_a_picture_on_its_side_is_reduced_by_the_sides_that_it_will_have(encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    for file_format in ("JPEG", "PNG"):
        raw = encode(np.zeros((64, 256), np.uint8), file_format, exif=exif)
        assert decode(raw, PreprocessSpec(height=64, width=16, jpeg_oversample=1)).size == (16, 64)


def test_a_wrong_extension_does_not_matter(tmp_path, encode):
    path = tmp_path / "picture.jpeg"
    path.write_bytes(encode(GREY, "PNG"))
    assert (preprocess(path, SPEC)[:, :, 0] == GREY).all()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_callers_picture_stays_as_it_was(encode, file_format, mode, is_loaded):
    raw = encode(Image.linear_gradient("L").convert(mode), file_format)
    image, untouched = Image.open(io.BytesIO(raw)), Image.open(io.BytesIO(raw))
    if is_loaded:
        image.load()
    for spec in (SPEC, PreprocessSpec(height=8, width=8, channels=3)):
        decoded = decode(image, spec)
        decoded.info["mark"] = True
        if not is_loaded:
            assert (np.asarray(decode(image, spec)) == np.asarray(decode(raw, spec))).all()
    assert (image.size, image.mode, image.format) == (untouched.size, untouched.mode, untouched.format)
    assert (np.asarray(image) == np.asarray(untouched)).all()


def test_a_callers_array_stays_as_it_was():
    pixels = np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)
    before = pixels.copy()
    preprocess(pixels, SPEC)
    preprocess(np.asfortranarray(pixels)[::-1, ::2], SPEC)
    pixels.flags.writeable = False
    preprocess(pixels, SPEC)
    assert (pixels == before).all()


@pytest.mark.parametrize("shape", [(0,), (0, 0), (0, 8), (8, 0), (0, 8, 1), (8, 0, 3), (8, 8, 0), (0, 0, 3)])
def test_arrays_without_a_pixel_are_refused(shape):
    with pytest.raises(ImageError, match=r"is empty|expected uint8"):
        preprocess(np.zeros(shape, np.uint8), SPEC)


def test_pictures_without_a_pixel_are_refused():
    for size in ((0, 0), (0, 9), (9, 0)):
        with pytest.raises(ImageError, match="is empty"):
            preprocess(Image.new("L", size), SPEC)


def test_path_bytes_image_and_array_are_the_same_picture(tmp_path, encode):
    raw = encode(GREY, "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(raw)
    for source in (path, str(path), raw, Image.open(io.BytesIO(raw)), GREY, GREY[:, :, np.newaxis]):
        assert (preprocess(source, SPEC)[:, :, 0] == GREY).all()


@pytest.mark.parametrize(("oversample", "size"), [(0, 64), (1, 8), (2, 16), (3, 32), (4, 32)])
def test_a_jpeg_is_decoded_at_the_smallest_scale_that_still_oversamples(encode, oversample, size):
    raw = encode(np.zeros((64, 64), np.uint8), "JPEG")
    assert decode(raw, PreprocessSpec(height=8, width=8, jpeg_oversample=oversample)).size == (size, size)


@pytest.mark.parametrize(("oversample", "size"), [(0, 64), (1, 8), (2, 16), (3, 32), (4, 32)])
@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_any_other_picture_is_reduced_to_the_scale_of_a_jpeg(encode, file_format, oversample, size):
    raw = encode(np.zeros((64, 64), np.uint8), file_format)
    assert decode(raw, PreprocessSpec(height=8, width=8, jpeg_oversample=oversample)).size == (size, size)


def test_reducing_takes_the_mean_of_blocks(encode):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:4, :4] = np.arange(16).reshape(4, 4) * 10  # mean 75
    decoded = decode(encode(pixels, "PNG"), PreprocessSpec(height=8, width=8, jpeg_oversample=2))
    assert np.asarray(decoded)[0, :2].tolist() == [75, 0]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_what_was_decoded_once_comes_back_as_it_is(encode, file_format, orientation):
    spec, exif = PreprocessSpec(height=8, width=8), Image.Exif()
    exif[0x0112] = orientation
    once = decode(encode(np.arange(64 * 96, dtype=np.uint8).reshape(64, 96), file_format, exif=exif), spec)
    assert (np.asarray(decode(once, spec)) == np.asarray(once)).all()


def test_scaled_decoding_hardly_changes_an_xray(shared_data):
    spec = PreprocessSpec(height=160, width=160)
    full = PreprocessSpec(height=160, width=160, jpeg_oversample=0)
    for path in image_files([shared_data / "chest_xray_fullsize"])[::20]:
        difference = np.abs(preprocess(path, spec).astype(int) - preprocess(path, full))
        assert difference.mean() < 2.0  # grey levels


# --- what is refused --------------------------------------------------------------------------------------------


def test_a_truncated_jpeg_is_damaged_not_grey(encode):
    raw = encode(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8), "JPEG")
    with pytest.raises(ImageError, match="damaged or incomplete"):
        preprocess(raw[: len(raw) // 2], SPEC)


def test_nothing_is_said_to_be_empty(tmp_path):
    (tmp_path / "nothing.png").write_bytes(b"")
    for source in (b"", tmp_path / "nothing.png"):
        with pytest.raises(ImageError, match="is empty"):
            preprocess(source, SPEC)


def test_what_is_no_picture_is_told_what_would_be(tmp_path, encode):
    (tmp_path / "letter.png").write_text("Dear colleague,")
    for source in (tmp_path / "letter.png", encode(GREY, "GIF")):
        with pytest.raises(ImageError, match="not a readable image; expected one of JPEG, PNG, TIFF, BMP"):
            preprocess(source, SPEC)


def test_a_pipe_that_nobody_writes_to_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match=r"pipe.png cannot be read \(it is no regular file\)"):
        preprocess(tmp_path / "pipe.png", SPEC)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "huge.bmp").open("wb") as file:
        file.truncate(2**40)  # of holes
    with pytest.raises(ImageError, match=f"has {2**40:,} bytes, more than the {MAX_FILE_BYTES:,} allowed"):
        preprocess(tmp_path / "huge.bmp", SPEC)
    with pytest.raises(ImageError, match="bytes, more than"):
        preprocess(bytes(MAX_FILE_BYTES + 1), SPEC)


def test_a_message_calls_the_image_what_it_is_told_to(tmp_path):
    for source in (b"torn", tmp_path):
        with pytest.raises(ImageError, match=r"^upload 7\.png "):
            decode(source, SPEC, name="upload 7.png")


def test_a_message_is_one_line_of_bounded_length_whatever_the_file_says():
    assert printable("a\nb\x1b[31m " + "c" * 999) == "a b?[31m " + "c" * 191
    assert one_line(KeyError()) == "KeyError"


def test_the_header_is_read_as_the_file_says_it(encode, encode_dicom):
    png = encode(np.zeros((2000, 1000, 3), np.uint8), "PNG")
    assert read_header(png) == PictureHeader(width=1000, height=2000, mode="RGB", file_format="PNG")
    dicom = encode_dicom(np.zeros((20, 10), np.uint16))
    assert read_header(dicom) == PictureHeader(width=10, height=20, mode="L", file_format="DICOM")
    with pytest.raises(ImageError, match="the image is empty"):
        read_header(b"")


def test_absent_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.png"):
        with pytest.raises(ImageError, match="cannot be read"):
            preprocess(path, SPEC)


@pytest.mark.parametrize(("width", "height"), [(8000, 4001), (12000, 10000), (20000, 10000)])
def test_a_bomb_is_refused_before_it_is_unpacked(encode, width, height):
    bomb = claim_size(encode(GREY, "PNG"), width, height)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(ImageError, match=f"more than the {MAX_PIXELS:,}"):
            preprocess(bomb, SPEC)


def test_the_largest_picture_allowed_is_read():
    edge = np.zeros((4000, 8000), np.uint8)
    assert edge.size == MAX_PIXELS
    assert preprocess(edge, SPEC).shape == (8, 8, 1)


def test_more_than_one_picture_in_a_file_is_refused(encode):
    page = Image.fromarray(GREY)
    raw = encode(page, "TIFF", save_all=True, append_images=[page])
    with pytest.raises(ImageError, match="more than one picture"):
        preprocess(raw, SPEC)


@pytest.mark.parametrize(
    "pixels", [GREY.astype(np.float32), GREY[0], np.zeros((8, 8, 2), np.uint8), np.zeros((1, 8, 8, 1), np.uint8)]
)
def test_arrays_of_another_type_or_shape_are_refused(pixels):
    with pytest.raises(ImageError, match="expected uint8"):
        preprocess(pixels, SPEC)


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 7},
        {"width": 5000},
        {"channels": 2},
        {"jpeg_oversample": 5},
        {"fit": "squeeze"},
        {"resize_filter": "nearest"},
        {"intensity": "clahe"},
    ],
)
def test_a_spec_that_cannot_be_done_is_refused(changes):
    with pytest.raises(ValueError, match=r"expected|outside"):
        PreprocessSpec(**changes)


# --- whatever comes ---------------------------------------------------------------------------------------------

specs = st.builds(
    PreprocessSpec,
    height=st.integers(8, 24),
    width=st.integers(8, 24),
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["stretch", "letterbox", "crop"]),
    resize_filter=st.sampled_from(["box", "bilinear", "hamming", "bicubic", "lanczos"]),
    jpeg_oversample=st.integers(0, 4),
    intensity=st.sampled_from(["none", "percentile"]),
)


modes = st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F"])


@given(specs, st.integers(1, 70), st.integers(1, 70), modes)
def test_any_size_and_mode_becomes_the_input(spec, width, height, mode):
    image = Image.linear_gradient("L").resize((width, height)).convert(mode)
    pixels = preprocess(image, spec)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (spec.height, spec.width, spec.channels)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))), st.sampled_from(["JPEG", "PNG"]))
def test_reading_twice_gives_the_same_pixels(pixels, file_format):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    first, second = (preprocess(buffer.getvalue(), SPEC) for _ in range(2))
    assert (first == second).all()


def picture_files() -> list[bytes]:
    rng = np.random.default_rng(0)
    files = []
    for file_format, options in (("JPEG", {}), ("PNG", {}), ("BMP", {}), ("TIFF", {})):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (24, 30), np.uint8)).save(buffer, file_format, **options)
        files.append(buffer.getvalue())
    return files


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300)
@given(
    st.sampled_from(picture_files()),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=8),
    st.integers(0, 3000),
)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(raw, changes, length):
    damaged = bytearray(raw)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    with contextlib.suppress(ImageError):
        assert preprocess(bytes(damaged[:length]), SPEC).shape == (8, 8, 1)


def test_a_tiff_with_an_empty_second_directory_is_refused(encode):
    raw = bytearray(encode(GREY, "TIFF"))
    (directory,) = struct.unpack_from("<I", raw, 4)
    (entries,) = struct.unpack_from("<H", raw, directory)
    struct.pack_into("<I", raw, directory + 2 + 12 * entries, len(raw))  # where the next directory begins
    with pytest.raises(ImageError, match="damaged or incomplete"):  # Pillow raises TypeError
        preprocess(bytes(raw + bytes(6)), SPEC)


# --- lists of files ---------------------------------------------------------------------------------------------


def test_folders_are_searched_in_depth_and_order_without_what_is_hidden(xrays):
    for name in ("._bright.png", "notes.txt", ".Trashes/old.png"):
        (xrays / name).parent.mkdir(exist_ok=True)
        (xrays / name).write_bytes(b"")
    assert image_files([xrays]) == [xrays / "bright.png", xrays / "ward" / "dark.jpeg"]


def test_a_file_is_taken_as_given(tmp_path):
    (tmp_path / ".odd").write_bytes(b"")
    assert image_files([tmp_path / ".odd"]) == [tmp_path / ".odd"]


def test_absent_paths_and_empty_folders_are_told(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        image_files([tmp_path / "absent"])
    with pytest.raises(ImageError, match="holds no image file"):
        image_files([tmp_path])


def test_fit_to_input_does_not_change_its_image():
    image = Image.fromarray(GREY)
    fit_to_input(image, PreprocessSpec(height=16, width=9, fit="letterbox"))
    assert (np.asarray(image) == GREY).all()
