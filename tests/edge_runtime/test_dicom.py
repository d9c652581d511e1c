import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from slimscan_edge import isolate
from slimscan_edge.errors import ImageError
from slimscan_edge.files import image_files
from slimscan_edge.preprocess import MAX_FILE_BYTES, MAX_PIXELS, PreprocessSpec, decode, preprocess

GREY = PreprocessSpec(height=8, width=8, jpeg_oversample=0)
COLOUR = PreprocessSpec(height=8, width=8, channels=3, jpeg_oversample=0)
RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65  # 0 to 4095: 12 bits
LITTLE = {"PixelRepresentation": 0, "BitsStored": 12}


def greys(raw: bytes) -> np.ndarray:
    return np.asarray(decode(raw, GREY))


def lut(values, *, first=0, bits=16):
    """A table as an item of a sequence."""
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = list(values)
    item["LUTData"].VR = "US"
    return [item]


def own_range(values):
    values = np.asarray(values, np.float64)
    return np.rint((values - values.min()) * 255 / (values.max() - values.min())).astype(int)


# --- greys worked out by hand -----------------------------------------------------------------------------------


def test_without_a_window_deep_values_are_mapped_from_their_own_range(encode_dicom):
    stored = np.array([[1000, 1051, 1255]], np.uint16)
    assert greys(encode_dicom(stored)).tolist() == [[0, 51, 255]]


def test_without_a_window_eight_bits_stay_as_they_are(encode_dicom):
    stored = np.array([[7, 8, 200]], np.uint8)
    assert greys(encode_dicom(stored)).tolist() == [[7, 8, 200]]


def test_six_bits_are_mapped_from_their_whole_range(encode_dicom):
    stored = np.array([[0, 21, 63]], np.uint8)
    assert greys(encode_dicom(stored, BitsStored=6)).tolist() == [[0, 85, 255]]


def test_a_uniform_deep_picture_is_black(encode_dicom):
    assert (greys(encode_dicom(np.full((4, 4), 900, np.uint16))) == 0).all()


@pytest.mark.parametrize(
    ("function", "expected"),
    # centre 100, width 51, by the formulas of PS3.3, C.11.2.1: linear from 74.5 to 124.5, exact from 74.5 to 125.5
    [("LINEAR", [0, 0, 130, 255, 255]), ("LINEAR_EXACT", [0, 0, 128, 252, 255]), ("SIGMOID", [0, 29, 128, 224, 255])],
)
def test_a_window_maps_its_width_around_its_centre(encode_dicom, function, expected):
    stored = np.array([[0, 74, 100, 125, 4095]], np.uint16)
    raw = encode_dicom(stored, **LITTLE, WindowCenter=100, WindowWidth=51, VOILUTFunction=function)
    assert greys(raw).tolist() == [expected]


def test_a_window_of_width_one_is_a_threshold(encode_dicom):
    stored = np.array([[99, 100, 101]], np.uint16)
    assert greys(encode_dicom(stored, WindowCenter=100, WindowWidth=1)).tolist() == [[0, 255, 255]]


def test_the_first_of_several_windows_counts(encode_dicom):
    one = encode_dicom(RAMP, WindowCenter=1000, WindowWidth=500)
    several = encode_dicom(RAMP, WindowCenter=[1000, 9], WindowWidth=[500, 9])
    assert (greys(one) == greys(several)).all()
    assert 0 < greys(one).mean() < 255


def test_monochrome1_is_turned_around(encode_dicom):
    usual, turned = (
        greys(encode_dicom(RAMP, WindowCenter=2048, WindowWidth=4096, PhotometricInterpretation=name))
        for name in ("MONOCHROME2", "MONOCHROME1")
    )
    assert (turned == 255 - usual).all()
    assert usual[0, 0] == 0


def test_rescaling_comes_before_the_window(encode_dicom):
    stored = np.array([[0, 10, 20]], np.uint16)  # 100, 120, 140 when rescaled
    raw = encode_dicom(
        stored, RescaleSlope=2, RescaleIntercept=100, WindowCenter=120, WindowWidth=40, VOILUTFunction="LINEAR_EXACT"
    )
    assert greys(raw).tolist() == [[0, 128, 255]]


def test_a_negative_slope_turns_a_picture_around(encode_dicom):
    stored = np.array([[0, 51, 255]], np.uint8)
    assert greys(encode_dicom(stored, RescaleSlope=-1, RescaleIntercept=255)).tolist() == [[255, 204, 0]]


def test_a_modality_table_comes_before_the_window(encode_dicom):
    table = lut([1000, 2000, 3000], first=5)
    stored = np.array([[0, 5, 6, 7, 60]], np.uint16)  # below and above the table its ends hold
    raw = encode_dicom(
        stored, ModalityLUTSequence=table, WindowCenter=2000, WindowWidth=2000, VOILUTFunction="LINEAR_EXACT"
    )
    assert greys(raw).tolist() == [[0, 0, 128, 255, 255]]


def test_a_voi_table_is_preferred_to_a_window(encode_dicom):
    stored = np.array([[0, 1, 2, 9]], np.uint16)
    raw = encode_dicom(stored, VOILUTSequence=lut([0, 1023, 512], bits=10), WindowCenter=1, WindowWidth=1)
    assert greys(raw).tolist() == [[0, 255, 128, 128]]


def test_a_voi_table_of_eight_bits_may_have_more_than_256_entries(encode_dicom):
    table = lut([255 - value // 16 for value in range(4096)], bits=8)
    expected = 255 - RAMP // 16
    assert (greys(encode_dicom(RAMP, BitsStored=12, VOILUTSequence=table)) == expected).all()


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("representation", ["US", "OW"])
def test_a_table_is_read_in_any_encoding(encode_dicom, syntax, representation):
    table = lut([40, 30, 20, 10, 0], first=65534)  # -2 to 2
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    if representation == "OW":
        table[0].LUTData = np.array([40, 30, 20, 10, 0], f"{order}u2").tobytes()
        table[0]["LUTData"].VR = "OW"
    stored = np.array([[-300, -2, -1, 0, 2]], np.int16)
    raw = encode_dicom(stored, syntax, ModalityLUTSequence=table)
    assert greys(raw).tolist() == [[255, 255, 191, 128, 0]]


def test_signed_values_below_zero_are_dark(encode_dicom):
    stored = np.array([[-100, 0, 155]], np.int16)
    assert greys(encode_dicom(stored)).tolist() == [[0, 100, 255]]
    assert greys(encode_dicom(stored.astype(np.int8)[:, :2])).tolist() == [[0, 255]]


def test_bits_beyond_those_stored_are_no_part_of_a_value(encode_dicom):
    stored = np.array([[0, 0x0FFF, 0xF800]], np.uint16)
    raw = encode_dicom(stored, **LITTLE, WindowCenter=2048, WindowWidth=4096)
    assert greys(raw).tolist() == [[0, 255, 128]]
    signed = encode_dicom(np.array([[0x07FF, 0x0FFF]], np.uint16), PixelRepresentation=1, BitsStored=12)
    assert greys(signed).tolist() == [[255, 0]]  # 2047 and -1


def test_a_palette_is_looked_up(encode_dicom):
    colours = {
        f"{name}PaletteColorLookupTableData": np.array(values, "<u2").tobytes()
        for name, values in (("Red", [0, 65535]), ("Green", [0, 0]), ("Blue", [65535, 0]))
    }
    descriptors = {keyword.replace("Data", "Descriptor"): [2, 0, 16] for keyword in colours}
    raw = encode_dicom(
        np.array([[0, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **descriptors, **colours
    )
    assert np.asarray(decode(raw, COLOUR)).tolist() == [[[0, 0, 255], [255, 0, 0]]]
    assert greys(raw).tolist() == [[29, 76]]


def test_colours_become_grey_or_stay(encode_dicom):
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    raw = encode_dicom(pixels)
    assert (np.asarray(decode(raw, COLOUR)) == pixels).all()
    assert greys(raw).tolist() == [[76, 150, 29]]
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    by_plane = encode_dicom(pixels, PlanarConfiguration=1, PixelData=planes.tobytes() + b"\0")
    assert (np.asarray(decode(by_plane, COLOUR)) == pixels).all()


def test_a_large_picture_goes_through_its_table_in_parts(encode_dicom):
    stored = np.random.default_rng(0).integers(0, 4096, (1500, 1100), np.uint16)
    assert (greys(encode_dicom(stored)) == own_range(stored)).all()


def test_it_is_reduced_like_any_other_picture(encode_dicom):
    stored = np.kron(np.array([[0, 200], [90, 50]]), np.ones((32, 32))).astype(np.uint8)
    raw = encode_dicom(stored)
    assert decode(raw, PreprocessSpec(height=8, width=8, jpeg_oversample=2)).size == (16, 16)
    assert (preprocess(raw, PreprocessSpec(height=8, width=8))[[0, 0, 7, 7], [0, 7, 0, 7], 0] == [0, 200, 90, 50]).all()


# --- padding ----------------------------------------------------------------------------------------------------


def padded(dtype, value):
    """A ramp whose first two columns are padding, and where that is."""
    stored = (np.arange(64).reshape(8, 8) * 16 + (1000 if np.dtype(dtype).itemsize == 2 else 0)).astype(dtype)
    if np.dtype(dtype).itemsize == 1:
        stored = np.arange(64, dtype=np.uint8).reshape(8, 8) + 100
    edge = np.zeros((8, 8), np.bool_)
    edge[:, :2] = True
    stored[edge] = np.array(value).astype(dtype)
    return stored, edge


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1500, "WindowWidth": 1000}])
@pytest.mark.parametrize(("dtype", "value"), [(np.int16, -2000), (np.uint16, 0), (np.uint16, 65535), (np.uint8, 255)])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.RLELossless])
def test_padding_is_black_and_out_of_the_range(encode_dicom, photometric, window, dtype, value, syntax):
    stored, edge = padded(dtype, value)
    raw = encode_dicom(stored, syntax, PhotometricInterpretation=photometric, PixelPaddingValue=value, **window)
    alone = encode_dicom(stored[:, 2:], syntax, PhotometricInterpretation=photometric, **window)
    assert (greys(raw)[edge] == 0).all()
    assert (greys(raw)[:, 2:] == greys(alone)).all()


@pytest.mark.parametrize(("first", "last"), [(-2000, -1000), (-1000, -2000)])
def test_padding_may_be_a_range(encode_dicom, first, last):
    stored, edge = padded(np.int16, -2000)
    stored[:4, :2] = -1000
    stored[4, :2] = -1500
    raw = encode_dicom(stored, PixelPaddingValue=first, PixelPaddingRangeLimit=last)
    assert (greys(raw)[:, 2:] == greys(encode_dicom(stored[:, 2:]))).all()
    assert (greys(raw)[edge] == 0).all()


def test_a_range_limit_alone_is_no_padding(encode_dicom):
    assert (greys(encode_dicom(RAMP, PixelPaddingRangeLimit=2000)) == greys(encode_dicom(RAMP))).all()


def test_padding_is_known_in_the_bits_beyond_those_stored(encode_dicom):
    stored = (RAMP // 2).astype(np.uint16)
    stored[:, :2] = 0xF830  # -2000, of which 12 bits are 2096: a grey that occurs elsewhere
    stored[7, 7] = 0x0830
    raw = encode_dicom(stored, BitsStored=12, PixelPaddingValue=0xF830)
    assert (greys(raw)[:, :2] == 0).all()
    assert greys(raw)[7, 7] == 255


def test_padding_is_known_in_either_sign(encode_dicom):
    stored, edge = padded(np.int16, -2000)
    raw = encode_dicom(stored, uid.ImplicitVRLittleEndian, PixelPaddingValue=-2000)
    assert (greys(raw)[edge] == 0).all()
    explicit = encode_dicom(stored)
    end = explicit.index(struct.pack("<HH2s", 0x7FE0, 0x10, b"OW"))
    unsigned = struct.pack("<HH2sHH", 0x28, 0x120, b"US", 2, 63536)
    assert (greys(explicit[:end] + unsigned + explicit[end:]) == greys(raw)).all()


def test_a_rescaled_picture_keeps_its_padding_out(encode_dicom):
    stored, _ = padded(np.int16, -2000)
    raw = encode_dicom(stored, PixelPaddingValue=-2000, RescaleSlope=-1, RescaleIntercept=4095)
    alone = encode_dicom(stored[:, 2:], RescaleSlope=-1, RescaleIntercept=4095)
    assert (greys(raw)[:, 2:] == greys(alone)).all()
    assert (greys(raw)[:, :2] == 0).all()


def test_a_picture_of_padding_is_black(encode_dicom):
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        raw = encode_dicom(np.full((8, 8), 9, np.uint16), PhotometricInterpretation=photometric, PixelPaddingValue=9)
        assert (greys(raw) == 0).all()


# --- optional attributes that are empty, and files without a preamble -----------------------------------------------


def emptied(*, descriptor=None, data=None):
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTExplanation = descriptor, "NORMAL"
    item["LUTDescriptor"].VR = "US"
    if data is not None:
        item.LUTData = data
        item["LUTData"].VR = "US"
    return [item]


EMPTY = [
    {"VOILUTSequence": []},
    {"VOILUTSequence": [pydicom.Dataset()]},
    {"VOILUTSequence": emptied()},
    {"VOILUTSequence": emptied(data=[])},
    {"VOILUTSequence": emptied(descriptor=[3, 0, 16])},
    {"ModalityLUTSequence": []},
    {"ModalityLUTSequence": emptied()},
    {"WindowCenter": "", "WindowWidth": ""},
    {"WindowCenter": 2000, "WindowWidth": ""},
    {"WindowCenter": "", "WindowWidth": 100, "VOILUTFunction": ""},
    {"RescaleSlope": "", "RescaleIntercept": ""},
    {"NumberOfFrames": ""},
    {"PlanarConfiguration": None},
    {"BitsStored": None},
    {"SamplesPerPixel": None},
    {"PixelRepresentation": None},
]


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.JPEGLosslessSV1, uid.JPEG2000Lossless])
@pytest.mark.parametrize("attributes", EMPTY, ids=lambda one: "-".join(one))
@pytest.mark.parametrize("is_absent", [False, True])
def test_what_is_optional_may_be_empty_or_absent(encode_dicom, syntax, attributes, is_absent):
    dataset = pydicom.dcmread(io.BytesIO(encode_dicom(RAMP * 16, syntax)))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
        if is_absent:
            delattr(dataset, keyword)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    assert (greys(buffer.getvalue()) == own_range(RAMP * 16)).all()


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.JPEGLSLossless]
)
def test_the_preamble_may_be_absent(encode_dicom, syntax):
    raw = encode_dicom(RAMP, syntax, BitsStored=12)
    assert (greys(raw[132:]) == own_range(RAMP)).all()
    assert (greys(raw[128:]) == own_range(RAMP)).all()


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_so_may_be_the_meta_information(encode_dicom, syntax):
    raw = encode_dicom(RAMP, syntax)
    (length,) = struct.unpack_from("<L", raw, 140)
    for bare in (raw[144 + length :], raw[:132] + raw[144 + length :]):
        assert (greys(bare) == own_range(RAMP)).all()


def test_encapsulated_pixels_of_an_unknown_syntax_are_refused(encode_dicom):
    raw = encode_dicom(RAMP, uid.JPEGLSLossless)
    (length,) = struct.unpack_from("<L", raw, 140)
    with pytest.raises(ImageError, match="its pixels are compressed"):
        decode(raw[144 + length :], GREY)


# --- transfer syntaxes ------------------------------------------------------------------------------------------

LOSSLESS = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
]


def smooth(dtype, most):
    down, across = np.mgrid[0:40, 0:56]
    wave = np.sin(down / 9.0) * np.cos(across / 7.0)
    return np.rint((wave + 1.0) / 2.0 * most).astype(dtype)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 10), (np.uint16, 12), (np.uint16, 16)])
def test_greys_come_out_of_every_lossless_syntax(encode_dicom, syntax, dtype, bits):
    stored = smooth(dtype, 2**bits - 1)
    expected = own_range(stored) if bits > 8 else stored
    assert (greys(encode_dicom(stored, syntax, BitsStored=bits)) == expected).all()


@pytest.mark.parametrize(
    "syntax", [s for s in LOSSLESS if s != uid.JPEG2000Lossless], ids=lambda syntax: syntax.keyword
)
def test_colours_come_out_of_every_lossless_syntax(encode_dicom, syntax):
    pixels = np.stack([smooth(np.uint8, most) for most in (255, 130, 40)], axis=-1)
    assert (np.asarray(decode(encode_dicom(pixels, syntax), COLOUR)) == pixels).all()


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.RLELossless])
def test_signed_values_come_out_of_compressed_syntaxes(encode_dicom, syntax):
    stored = (smooth(np.int32, 65535) - 32768).astype(np.int16)
    assert (greys(encode_dicom(stored, syntax)) == own_range(stored)).all()


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGLSNearLossless, uid.JPEG2000])
def test_greys_hardly_change_in_lossy_syntaxes(encode_dicom, syntax):
    stored = smooth(np.uint8, 255)
    assert np.abs(greys(encode_dicom(stored, syntax)).astype(int) - stored).max() <= 8


def encapsulated(encode_dicom, stored, codestream, **attributes):
    """A DICOM file of JPEG 2000 with these pixels."""
    dataset = pydicom.dcmread(io.BytesIO(encode_dicom(stored, **attributes)))
    dataset.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    dataset.PixelData = pydicom.encaps.encapsulate([codestream])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("is_boxed", [False, True])
def test_jpeg_2000_may_be_a_whole_file(encode, encode_dicom, bits, is_boxed):
    stored = smooth(np.uint16, 2**bits - 1)
    codestream = encode(stored, "JPEG2000", irreversible=False, no_jp2=not is_boxed)
    raw = encapsulated(encode_dicom, stored, codestream, BitsStored=bits)
    assert (greys(raw) == own_range(stored)).all()


ONLY_GDCM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from PIL import features
features.check = lambda _: False
from slimscan_edge import isolate
isolate.serve()
"""


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16), (np.int16, 16)])
def test_jpeg_2000_that_pillow_does_not_decode_is_decoded_apart(encode_dicom, monkeypatch, dtype, bits):
    stored = (smooth(np.int32, 2**bits - 1) - (2**15 if dtype == np.int16 else 0)).astype(dtype)
    raw = encode_dicom(stored, uid.JPEG2000Lossless, BitsStored=bits)
    with monkeypatch.context() as changed:
        changed.setattr(isolate, "_kept", None)
        changed.setattr(isolate, "_CHILD", ONLY_GDCM)
        changed.setattr("PIL.features.check", lambda _: False)
        changed.setattr("gdcm.Image", None)
        assert (greys(raw) == (stored if bits == 8 else own_range(stored))).all()


def test_jpeg_of_twelve_bits_is_read(encode_dicom):
    stored = smooth(np.uint16, 4095)
    raw = encode_dicom(stored, uid.JPEGExtended12Bit, BitsStored=12)
    assert np.abs(greys(raw).astype(int) - own_range(stored)).max() <= 2


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Modality": "CT"}, "is DICOM of modality 'CT', no radiograph; expected one of CR, DR, DX, OT, RG"),
        ({"Modality": "MR"}, "modality 'MR'"),
        ({"Modality": "US"}, "modality 'US'"),
        ({"ViewPosition": "LL"}, "view position LL, no frontal chest radiograph"),
        ({"NumberOfFrames": 2}, "holds more than one picture"),
        ({"BitsAllocated": 32, "BitsStored": 12}, "32 bits allocated .* expected 8 or 16"),
        ({"PhotometricInterpretation": "HSV"}, "photometric interpretation 'HSV'"),
        ({"HighBit": 14}, "high bit"),
        ({"Rows": 8000, "Columns": 4001}, f"4001x8000 pixels, more than the {MAX_PIXELS:,} allowed"),
        ({"PixelData": None}, "holds no pixel data"),
        ({"Rows": None}, "holds no pixel data"),
        ({"PixelData": b""}, "holds no pixel data"),
        ({"Columns": None}, r"damaged or incomplete \(its Columns is None"),
        ({"Rows": 0}, r"damaged or incomplete \(its Rows is 0, expected 1 to 65535\)"),
        ({"Rows": 9}, "damaged or incomplete .*less than expected"),
        ({"SamplesPerPixel": 3}, "MONOCHROME2 with 3 samples"),
        ({"BitsStored": 17}, "its BitsStored is 17"),
        ({"WindowCenter": 9, "WindowWidth": 0}, "WindowWidth is too small"),
        ({"WindowCenter": 9, "WindowWidth": 5, "VOILUTFunction": "CUBIC"}, "VOILUTFunction is 'CUBIC'"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope is 0"),
        ({"VOILUTSequence": lut([1, 2, 3], bits=20)}, "20 bits an entry"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "damaged or incomplete"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_not_read_is_refused_with_one_reason(encode_dicom, changes, reason):
    with pytest.raises(ImageError, match=reason) as refused:
        decode(encode_dicom(RAMP, **changes), GREY)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("modality", ["CR", "DX", "RG", "DR", "OT", "", None])
def test_radiographs_and_what_does_not_say_are_read(encode_dicom, modality):
    assert (greys(encode_dicom(RAMP, Modality=modality)) == own_range(RAMP)).all()


def test_size_is_refused_before_pixel_data_is_looked_at(encode_dicom):
    raw = encode_dicom(RAMP, Rows=60000, Columns=60000)
    with pytest.raises(ImageError, match="60000x60000 pixels"):
        decode(raw[: raw.index(RAMP.tobytes())], GREY)


def test_a_transfer_syntax_that_is_not_read_is_named(encode_dicom):
    raw = encode_dicom(smooth(np.uint8, 255), uid.JPEG2000Lossless)
    with pytest.raises(ImageError, match=r"transfer syntax JPIP.* which is not read") as refused:
        decode(raw.replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.95"), GREY)
    assert "expected uncompressed, RLE, JPEG" in str(refused.value)


def test_a_codestream_that_claims_another_size_meets_no_codec(encode_dicom):
    for syntax in (uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.JPEG2000Lossless, uid.JPEGBaseline8Bit):
        raw = encode_dicom(smooth(np.uint8, 255), syntax)
        rows = raw.index(struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 40)) + 8
        with pytest.raises(ImageError, match=r"the picture in it is 56x40 of 1 samples, its header says 56x41 of 1"):
            decode(raw[:rows] + struct.pack("<H", 41) + raw[rows + 2 :], GREY)


def test_runs_never_unpack_to_more_than_the_picture(encode_dicom):
    raw = encode_dicom(np.zeros((8, 8), np.uint8), uid.RLELossless)
    frame = raw.index(struct.pack("<2L", 1, 64))
    endless = raw[:frame] + struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x07" * 500_000
    fragment = struct.pack("<HHL", 0xFFFE, 0xE000, len(endless) - frame)
    endless = endless[: frame - 8] + fragment + endless[frame:] + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    assert (greys(endless) == 7).all()


def test_a_deflated_file_is_unpacked_under_a_cap(encode_dicom):
    raw = encode_dicom(RAMP, uid.DeflatedExplicitVRLittleEndian)
    start = raw.index(b"1.2.840.10008.1.2.1.99") + 22
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    squeezed = b"".join(bomb.compress(bytes(2**20)) for _ in range(MAX_FILE_BYTES // 2**20 + 1)) + bomb.flush()
    assert len(squeezed) < 2**18
    meta = raw[: len(raw) - len(deflated_part(raw, start))]
    with pytest.raises(ImageError, match=f"unpacks to more than the {MAX_FILE_BYTES:,} bytes allowed"):
        decode(meta + squeezed, GREY)
    with pytest.raises(ImageError, match="deflated part is cut off"):
        decode(raw[:-20], GREY)


def deflated_part(raw: bytes, start: int) -> bytes:
    """What follows the meta information, by its group length."""
    (length,) = struct.unpack_from("<L", raw, 140)
    assert start < 144 + length
    return raw[144 + length :]


def test_sequences_nested_too_deeply_are_refused(encode_dicom):
    raw = encode_dicom(RAMP)
    at = raw.index(struct.pack("<HH2sH", 0x28, 0x02, b"US", 2))
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    opened = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + item
    with pytest.raises(ImageError, match="sequences nested too deeply"):
        decode(raw[:at] + opened * 5000 + raw[at:], GREY)


def test_a_bad_value_representation_is_refused_or_passed_over(encode_dicom):
    raw = encode_dicom(RAMP)
    rows = struct.pack("<HH2sH", 0x28, 0x10, b"US", 2)
    with pytest.raises(ImageError, match=r"damaged or incomplete \(its Rows cannot be read"):
        decode(raw.replace(rows, rows.replace(b"US", b"QQ")), GREY)
    modality = struct.pack("<HH2sH", 0x08, 0x60, b"CS", 2)
    with pytest.raises(ImageError, match="damaged or incomplete"):
        decode(raw.replace(modality, modality.replace(b"CS", b"XX")), GREY)


def test_encapsulated_garbage_is_damaged(encode_dicom):
    for syntax in LOSSLESS[4:]:
        raw = encode_dicom(smooth(np.uint16, 4095), syntax, BitsStored=12)
        start = raw.index(struct.pack("<HH2s", 0x7FE0, 0x10, b"OB")) + 20
        with pytest.raises(ImageError, match="damaged or incomplete"):
            decode(raw[: start + 8] + bytes(len(raw) - start - 16) + raw[-8:], GREY)


# --- DICOM among other files ------------------------------------------------------------------------------------


def test_it_is_known_by_its_mark_and_not_by_its_name(tmp_path, encode, encode_dicom):
    (tmp_path / "IM0001").write_bytes(encode_dicom(RAMP))
    (tmp_path / "grey.jpeg").write_bytes(encode_dicom(RAMP))
    (tmp_path / "export.dcm").write_bytes(encode(RAMP.astype(np.uint8), "PNG"))
    for name in ("IM0001", "grey.jpeg"):
        assert (np.asarray(decode(tmp_path / name, GREY)) == own_range(RAMP)).all()
    assert decode(tmp_path / "export.dcm", GREY).size == (8, 8)


def test_a_search_of_folders_finds_it(tmp_path):
    for name in ("a.dcm", "b.DICOM", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in image_files([tmp_path])] == ["a.dcm", "b.DICOM"]


@pytest.mark.parametrize("module", ["pydicom", "gdcm"])
def test_without_the_extra_it_is_rejected_with_the_line_that_helps(
    tmp_path, golden_bundle_path, encode, encode_dicom, module
):
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('No module named {module}')")
    folder = tmp_path / "xrays"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(encode_dicom(smooth(np.uint16, 4095), uid.JPEGLosslessSV1, BitsStored=12))
    (folder / "b.png").write_bytes(encode(np.full((40, 40), 220, np.uint8), "PNG"))
    words = [sys.executable, "-m", "slimscan_edge", "predict", str(folder), "--bundle", str(golden_bundle_path)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    package = {"pydicom": "pydicom", "gdcm": "python-gdcm"}[module]
    first, second = done.stdout.splitlines()
    assert done.returncode == 2
    assert "a.dcm is DICOM, which needs the 'dicom' extra" in first
    assert first.endswith(f"({package} is not installed); run: pip install 'slimscan[dicom]'")
    assert second.startswith("positive")


ABORTING = """
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
from slimscan_edge import isolate
from slimscan_edge.dicom import reader
reader._by_gdcm = lambda *_, **__: os.abort()
isolate.serve()
"""


def test_a_codec_that_ends_its_process_ends_only_a_child(encode_dicom, monkeypatch):
    raw = encode_dicom(smooth(np.uint16, 4095), uid.JPEGLosslessSV1, BitsStored=12)
    with monkeypatch.context() as changed:
        changed.setattr(isolate, "_kept", None)
        changed.setattr(isolate, "_CHILD", ABORTING)
        for _ in range(2):
            with pytest.raises(ImageError, match=r"^the image crashed the decoder \(SIGABRT\)"):
                decode(raw, GREY)
    assert (greys(raw) == own_range(smooth(np.uint16, 4095))).all()


def test_gdcm_decodes_nothing_in_this_process(encode_dicom, monkeypatch):
    stored = smooth(np.uint16, 4095)
    raw = encode_dicom(stored, uid.JPEGLSLossless, BitsStored=12)
    monkeypatch.setattr("gdcm.Image", None)
    assert (greys(raw) == own_range(stored)).all()


def with_segment(raw: bytes, segment: bytes) -> bytes:
    """A DICOM file with something between the start of its codestream and what followed."""
    start = raw.index(b"\xff\xd8\xff")
    padding = b"\0" * (len(segment) % 2)
    (length,) = struct.unpack_from("<L", raw, start - 4)
    longer = struct.pack("<L", length + len(segment) + len(padding))
    frame = raw[start : start + length]
    return raw[: start - 4] + longer + frame[:2] + segment + frame[2:] + padding + raw[start + length :]


@pytest.mark.parametrize(
    "segment",
    [
        b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0\x09",  # of a transform that is not known
        b"\xff\xe0\x00\x10JFIF\0\x09\x01\0\0\x01\0\x01\0\0",  # of a version that is not known
        b"\xff",  # a fill byte
        b"\xff\xfe\x00\x04hm",  # a comment
    ],
)
def test_what_gdcm_would_go_down_with_is_kept_from_it(encode_dicom, segment):
    stored = smooth(np.uint16, 4095)
    raw = encode_dicom(stored, uid.JPEGLosslessSV1, BitsStored=12)
    assert (greys(with_segment(raw, segment)) == own_range(stored)).all()


@pytest.mark.parametrize("segment", [b"\0", b"\xff\xd0", b"\xff\x01\0\x02", b"\xff\xfe\x00\x04hmm"])
def test_a_codestream_with_gaps_meets_no_codec(encode_dicom, segment):
    raw = encode_dicom(smooth(np.uint16, 4095), uid.JPEGLosslessSV1, BitsStored=12)
    with pytest.raises(ImageError, match="the picture in it does not begin as JPEG does"):
        decode(with_segment(raw, segment), GREY)


UNTOUCHED = """
import sys
from slimscan_edge.cli import main
assert main(["predict", *sys.argv[1:]]) == 0
print([name for name in ("pydicom", "gdcm", "slimscan_edge.dicom", "slimscan_edge.isolate") if name in sys.modules])
"""


def test_a_jpeg_imports_nothing_of_it(tmp_path, golden_bundle_path, encode):
    (tmp_path / "a.jpeg").write_bytes(encode(np.full((40, 40), 220, np.uint8), "JPEG"))
    words = [sys.executable, "-c", UNTOUCHED, str(tmp_path / "a.jpeg"), "--bundle", str(golden_bundle_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- the same as pydicom ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("representation", [np.uint16, np.int16])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_those_of_pydicom(encode_dicom, representation, function):
    rng = np.random.default_rng(1)
    info = np.iinfo(representation)
    for _ in range(5):
        centre, width = rng.uniform(-500, 2500), rng.uniform(2, 3000)
        stored = rng.integers(info.min // 8, info.max // 8, (20, 20), representation)
        raw = encode_dicom(
            stored,
            RescaleSlope=0.75,
            RescaleIntercept=-20.5,
            WindowCenter=round(centre, 3),
            WindowWidth=round(width, 3),
            VOILUTFunction=function,
        )
        dataset = pydicom.dcmread(io.BytesIO(raw))
        shown = apply_voi_lut(apply_modality_lut(stored, dataset), dataset)
        low, high = (bound * 0.75 - 20.5 for bound in (info.min, info.max))
        assert (greys(raw) == np.rint((shown - low) / (high - low) * 255)).all()
