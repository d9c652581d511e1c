"""pydicom's own files, as its wheel ships them: each comes out as pydicom shows it, or is refused by name."""

import importlib.util
import re
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.pixels.processing import apply_color_lut

from slimscan_edge.errors import ImageError
from slimscan_edge.preprocess import PreprocessSpec, decode

SHIPPED = Path(pydicom.__file__).parent / "data"
NO_PIXEL_DATA = "is DICOM that holds no pixel data"
SEVERAL = "holds more than one picture"
NOT_READABLE = "is not a readable image; expected one of JPEG, PNG, TIFF, BMP, DICOM"

READ = [
    "image_dfl.dcm",  # deflated
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "SC_jpeg_no_color_transform.dcm",
    "SC_jpeg_no_color_transform_2.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_dcmtk_+eb+cy+n1.dcm",
    "SC_rgb_dcmtk_+eb+cy+n2.dcm",
    "SC_rgb_dcmtk_+eb+cy+np.dcm",
    "SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "SC_rgb_gdcm_KY.dcm",
    "GDCMJ2K_TextGBR.dcm",  # a JPEG 2000 file in boxes, which Pillow's codec does not decode
    "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jls_lossy_sample.dcm",
    "SC_rgb_jpeg.dcm",
    "SC_rgb_jpeg_app14_dcmd.dcm",
    "SC_rgb_jpeg_dcmd.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_jpeg_lossy_gdcm.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "chrArab.dcm",
    "chrH31.dcm",
    "chrI2.dcm",
    "chrX2.dcm",
]

# Refused for their body part; with it and the view left out they show that all else is read right.
OF_ANOTHER_PART = {
    "77654033/CR1/6154": "CSPINE",
    "77654033/CR2/6247": "CSPINE",  # computed radiography: MONOCHROME1, 12 bits, rescaled, with a window
    "77654033/CR3/6278": "CSPINE",
}

# Refused for their modality; with that one word changed they show that all else is read right.
OF_ANOTHER_MODALITY = {
    "693_J2KI.dcm": "CT",
    "CT_small.dcm": "CT",
    "ExplVR_BigEnd.dcm": "US",
    "J2K_pixelrep_mismatch.dcm": "CT",
    "JPEG2000.dcm": "NM",
    "MR_small.dcm": "MR",
    "MR_small_RLE.dcm": "MR",
    "MR_small_bigendian.dcm": "MR",
    "MR_small_expb.dcm": "MR",
    "MR_small_implicit.dcm": "MR",
    "MR_small_jp2klossless.dcm": "MR",
    "MR_small_jpeg_ls_lossless.dcm": "MR",
    "MR_small_padded.dcm": "MR",
    "examples_jpeg2k.dcm": "US",
    "examples_overlay.dcm": "MR",
    "examples_palette.dcm": "US",
    "examples_rgb_color.dcm": "US",
}

REFUSED = {
    "SC_rgb_rle_16bit.dcm": "is DICOM with 16 bits allocated for a sample of RGB; expected 8",
    "SC_rgb_rle_16bit_2frame.dcm": SEVERAL,
    "SC_rgb_rle_2frame.dcm": SEVERAL,
    "SC_rgb_rle_32bit.dcm": "is DICOM with 32 bits allocated for a sample of RGB; expected 8",
    "SC_rgb_rle_32bit_2frame.dcm": SEVERAL,
    "ExplVR_BigEndNoMeta.dcm": "is DICOM of modality 'RTPLAN'",
    "ExplVR_LitEndNoMeta.dcm": "is DICOM of modality 'RTPLAN'",
    "no_meta.dcm": NOT_READABLE,
    "rtstruct.dcm": "is DICOM of modality 'RTSTRUCT'",
    "zipMR.gz": NOT_READABLE,
    "README.txt": NOT_READABLE,
    "badVR.dcm": "is DICOM of modality 'RTDOSE'",
    "liver_1frame.dcm": "is DICOM of modality 'SEG'",
    "liver_expb_1frame.dcm": "is DICOM of modality 'SEG'",
    "rtdose.dcm": "is DICOM of modality 'RTDOSE'",
    "rtdose_rle_1frame.dcm": "is DICOM of modality 'RTDOSE'",
    "rtplan.dcm": "is DICOM of modality 'RTPLAN'",
    "rtplan_truncated.dcm": "is DICOM of modality 'RTPLAN'",
    "reportsi.dcm": "is DICOM of modality 'SR'",
    "reportsi_with_empty_number_tags.dcm": "is DICOM of modality 'SR'",
    "test-SR.dcm": "is DICOM of modality 'SR'",
    "waveform_ecg.dcm": "is DICOM of modality 'ECG'",
    "examples_ybr_color.dcm": "is DICOM of modality 'US'",
    "JPEG-lossy.dcm": "is DICOM of modality 'NM'",
    "JPGExtended.dcm": "is DICOM of modality 'NM'",
    "JPEG2000-embedded-sequence-delimiter.dcm": "is DICOM of modality 'NM'",
    "MR_truncated.dcm": "is DICOM of modality 'MR'",
    "chrJapMulti.dcm": NO_PIXEL_DATA,
    "chrJapMultiExplicitIR6.dcm": NO_PIXEL_DATA,
    "chrKoreanMulti.dcm": NO_PIXEL_DATA,
    "chrSQEncoding.dcm": NO_PIXEL_DATA,
    "DICOMDIR": NO_PIXEL_DATA,
    "DICOMDIR-bigEnd": NO_PIXEL_DATA,
    "DICOMDIR-empty.dcm": NO_PIXEL_DATA,
    "DICOMDIR-implicit": NO_PIXEL_DATA,
    "UN_sequence.dcm": NO_PIXEL_DATA,
    "empty_charset_LEI.dcm": NO_PIXEL_DATA,
    "nested_priv_SQ.dcm": NO_PIXEL_DATA,
    "no_meta_group_length.dcm": NO_PIXEL_DATA,
    "priv_SQ.dcm": NO_PIXEL_DATA,
    "meta_missing_tsyntax.dcm": NO_PIXEL_DATA,
}

# What is refused with its modality changed, so that the damage itself is met.
REFUSED_AS_RADIOGRAPH = {
    "MR_truncated.dcm": r"is damaged or incomplete \(The number of bytes of pixel data is less than expected",
    "JPEG2000-embedded-sequence-delimiter.dcm": r"is damaged or incomplete \(the picture in it is \d+x1024",
    "examples_ybr_color.dcm": SEVERAL,
    "liver_1frame.dcm": "is DICOM with 1 bits allocated",
    "rtdose_1frame.dcm": "is DICOM with 32 bits allocated",
    "rtdose.dcm": SEVERAL,
    "badVR.dcm": r"is damaged or incomplete \(its NumberOfFrames is '1A'",
    "rtplan_truncated.dcm": NO_PIXEL_DATA,
    "test-SR.dcm": NO_PIXEL_DATA,
    "waveform_ecg.dcm": NO_PIXEL_DATA,
}


def raw_file(name: str) -> bytes:
    found = sorted(SHIPPED.rglob(name))
    if not found:
        pytest.skip(f"this pydicom ships no {name}")
    return found[0].read_bytes()


_HEADER_WORDS = ((0x08, 0x60, 0x6F), (0x18, 0x15, 0x16), (0x18, 0x5101, 0x5103), (0x20, 0x60, 0x61), (0x20, 0x62, 0x63))
"""Group and element of modality, body part, view and laterality, and an element that is not known."""


def as_radiograph(raw: bytes) -> bytes:
    """The same file of no modality, body part or view that is refused: their tags become those of unknown elements."""
    pixels = max(raw.find(b"\xe0\x7f\x10\x00"), raw.find(b"\x7f\xe0\x00\x10"))
    header, rest = (raw[:pixels], raw[pixels:]) if pixels >= 0 else (raw, b"")
    for group, element, other in _HEADER_WORDS:
        for order in "<>":
            tag, unknown = (struct.pack(f"{order}HH", group, number) for number in (element, other))
            header = re.sub(re.escape(tag) + rb"(?=CS|[\x02-\x10]\0\0\0)", lambda _, to=unknown: to, header, count=1)
    return header + rest


def as_pydicom_shows_it(raw: bytes) -> tuple[int, np.ndarray]:
    """Channels, and greys or colours 0 to 255, by pydicom's own pipeline and the rules for its range."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(raw))
    stored = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset)
        return 3, np.rint(colours * (255.0 / np.iinfo(colours.dtype).max))
    if dataset.SamplesPerPixel == 3:
        return 3, stored
    shown = np.asarray(apply_voi_lut(apply_modality_lut(stored, dataset), dataset), np.float64)
    low, high = range_of(shown)
    if "VOILUTSequence" in dataset:
        low, high = 0.0, 2.0 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1.0
    elif "WindowWidth" in dataset:
        bits, sign = dataset.BitsStored, dataset.PixelRepresentation
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        low, high = (bound * slope + intercept for bound in (-sign * 2 ** (bits - 1), 2 ** (bits - sign) - 1))
    elif dataset.BitsStored == 8:
        low, high = 0.0, 255.0
    greys = np.rint(np.clip((shown - low) * 255.0 / (high - low), 0.0, 255.0))
    return 1, 255 - greys if dataset.PhotometricInterpretation == "MONOCHROME1" else greys


def range_of(shown: np.ndarray) -> tuple[float, float]:
    """The least and the most value that is as near the 5th or the 95th percentile as these are to each other."""
    least, most = np.percentile(shown, (5, 95), method="inverted_cdf")
    kept = shown[np.abs(shown - (least + most) / 2) <= 1.5 * (most - least)]
    return float(kept.min()), float(kept.max())


def decoded(raw: bytes, channels: int = 1) -> np.ndarray:
    return np.asarray(decode(raw, PreprocessSpec(height=8, width=8, channels=channels, jpeg_oversample=0)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READ)
def test_it_comes_out_as_pydicom_shows_it(name):
    raw = raw_file(name)
    channels, expected = as_pydicom_shows_it(raw)
    assert (decoded(raw, channels) == expected).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "modality"), OF_ANOTHER_MODALITY.items())
def test_another_modality_is_refused_and_nothing_but_that(name, modality):
    raw = raw_file(name)
    with pytest.raises(ImageError, match=f"^the image is DICOM of modality '{modality}', no radiograph"):
        decoded(raw)
    channels, expected = as_pydicom_shows_it(raw)
    assert (decoded(as_radiograph(raw), channels) == expected).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "part"), OF_ANOTHER_PART.items())
def test_another_body_part_is_refused_and_nothing_but_that(name, part):
    raw = raw_file(name)
    with pytest.raises(ImageError, match=f"^the image is DICOM of body part {part}, no frontal chest radiograph"):
        decoded(raw)
    channels, expected = as_pydicom_shows_it(raw)
    assert (decoded(as_radiograph(raw), channels) == expected).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_it_is_refused_by_name(name, reason):
    with pytest.raises(ImageError, match=f"^the image {reason}"):
        decoded(raw_file(name))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "reason"), REFUSED_AS_RADIOGRAPH.items())
def test_as_a_radiograph_it_is_refused_for_its_damage(name, reason):
    with pytest.raises(ImageError, match=f"^the image {reason}"):
        decoded(as_radiograph(raw_file(name)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_jpeg_of_twelve_bits_is_read_though_pydicom_does_not(name):
    raw = raw_file(name)
    with pytest.raises((RuntimeError, NotImplementedError)):
        as_pydicom_shows_it(raw)
    greys = decoded(as_radiograph(raw))
    assert greys.shape == (1024, 256)
    assert (greys.min(), greys.max()) == (0, 255)


def shown_or_refused(raw: bytes) -> np.ndarray | str:
    try:
        return decoded(raw)
    except ImageError as exc:
        return str(exc)


def single_greys() -> list[Path]:
    """The single-frame greys of the package `pydicom-data`, where it is installed."""
    found = importlib.util.find_spec("data_store")
    if found is None or found.origin is None:
        return []
    paths = sorted((Path(found.origin).parent / "data").rglob("*.dcm"))
    headers = [(path, pydicom.dcmread(path, force=True, stop_before_pixels=True)) for path in paths]
    return [
        path
        for path, header in headers
        if str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME")
        and int(header.get("NumberOfFrames") or 1) == 1
    ]


@pytest.mark.filterwarnings("ignore")
def test_the_single_greys_of_pydicom_data_are_right_or_refused_by_name():
    paths = single_greys()
    if not paths:
        pytest.skip("needs the package pydicom-data")
    for path in paths:
        raw = path.read_bytes()
        channels, expected = as_pydicom_shows_it(raw)
        is_padding = pydicom.dcmread(path).pixel_array == pydicom.dcmread(path).get("PixelPaddingValue", np.nan)
        shown = shown_or_refused(as_radiograph(raw))
        if isinstance(shown, str):
            assert re.match("the image (is DICOM of|holds more than one picture)", shown), path.name
            continue
        assert (channels, (np.where(is_padding, 0, expected) == shown).all()) == (1, True), path.name
