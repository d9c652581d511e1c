"""Which greys of a deep picture become black and white."""

import numpy as np
import pytest

from slimscan_edge.formats.deep import fences
from slimscan_edge.preprocess import PreprocessSpec, decode

FULL = PreprocessSpec(height=8, width=8, jpeg_oversample=0)


def twelve_bits() -> np.ndarray:
    down, across = np.mgrid[0:60, 0:80]
    deep = np.rint(2040.0 + 2040.0 * np.sin(down / 9.0) * np.cos(across / 7.0)).astype(np.uint16)
    deep[0, :2] = 0, 4080
    return deep


def greys(raw: bytes) -> np.ndarray:
    return np.asarray(decode(raw, FULL)).astype(int)


def test_fences_lie_as_far_beyond_the_percentiles_as_these_are_apart():
    values = np.arange(100)  # one each: a twentieth lies below 5 and above 94
    assert fences(values, np.ones(100, np.int64)) == (5 - 89, 94 + 89)
    assert fences(np.array([3, 9]), np.array([960, 40])) == (-np.inf, np.inf)  # of one grey but for a few


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "float TIFF", "DICOM"])
@pytest.mark.parametrize("level", [65535, 40000, 0])
def test_a_letter_painted_beyond_the_range_leaves_the_rest_as_it_is(encode, encode_dicom, kind, level):
    def file(values):
        if kind == "DICOM":
            return encode_dicom(values)
        return encode(values.astype(np.float32), "TIFF") if kind == "float TIFF" else encode(values, kind)

    plain = twelve_bits() + (20000 if level == 0 else 0)
    marked = plain.copy()
    marked[5:20, 60:70] = level  # 3 %
    rest = marked == plain
    expected = np.rint(twelve_bits() * 255.0 / 4080.0)
    assert (greys(file(plain)) == expected).all()
    assert (greys(file(marked))[rest] == expected[rest]).all()
    assert set(greys(file(marked))[~rest].tolist()) == {255 if level else 0}


def test_a_picture_without_outliers_keeps_its_whole_range(encode):
    for values in (twelve_bits(), np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16):
        expected = np.rint(values * 255.0 / values.max())
        assert (greys(encode(values, "PNG")) == expected).all()


def test_a_range_that_is_sampled_is_that_of_all(encode):
    rng = np.random.default_rng(0)
    values = rng.normal(0.0, 1.0, (1500, 1400)).astype(np.float32)  # more than are looked at for percentiles
    values[700, 700] = 1e30
    kept = values[np.abs(values) < 3 * 1.645]  # in standard deviations: the percentiles lie at 1.645
    expected = np.rint(np.clip((values - kept.min()) * 255.0 / (kept.max() - kept.min()), 0.0, 255.0))
    assert np.abs(greys(encode(values, "TIFF")) - expected).max() <= 6  # fences differ a little by the sample
    assert greys(encode(values, "TIFF"))[700, 700] == 255
