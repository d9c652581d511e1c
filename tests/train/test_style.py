"""Blurred pictures are mostly ill here and sharp ones mostly healthy, as where the two came from two machines."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from slimscan_train.style import LEAST_PROPENSITY, class_by_style, measure_style, style_frequencies


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, labels, and which pictures have the other class's style: one in ten."""
    rng = np.random.default_rng(4)
    positive = np.arange(1000) % 2 == 0
    other = np.arange(1000) % 20 < 2
    grain = rng.normal(0.0, 30.0, (1000, 24, 20))
    width = np.where(positive ^ other, 0.7, 0.4) + rng.normal(0.0, 0.03, 1000)
    blurred = np.stack([gaussian_filter(picture, sigma) for picture, sigma in zip(grain, width, strict=True)])
    return np.clip(120.0 + blurred, 0, 255).astype(np.uint8)[..., None], positive, other


def test_what_is_measured_has_one_row_a_picture_and_is_finite(
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    measured = measure_style(pictures[0])
    assert measured.shape == (1000, 23)
    assert np.isfinite(measured).all()
    assert np.isfinite(measure_style(np.zeros((1, 16, 16, 3), np.uint8))).all()


def test_each_measure_tells_what_it_is_named_for() -> None:
    rng = np.random.default_rng(5)
    base = rng.integers(60, 180, (48, 48), dtype=np.uint8)
    stripes = np.tile(np.arange(48, dtype=np.uint8) % 2 * 100, (48, 1))
    dark_left = base.copy()
    dark_left[:, :5] = 0
    soft = gaussian_filter(base.astype(float), 1.5).astype(np.uint8)
    plain, striped, dark, blurred = measure_style(np.stack([base, stripes, dark_left, soft])[..., None])
    assert striped[2] < plain[2] - 3  # differences down over across
    assert blurred[0] < plain[0]
    assert blurred[3] < plain[3]  # Laplacian at full size
    assert dark[20] == 0  # margins: top, bottom, left, right
    assert dark[21] == pytest.approx(plain[21])
    assert dark[22] == pytest.approx(5 / 48)  # nearly black
    assert plain[9:16] == pytest.approx(np.percentile(base, [1, 5, 25, 50, 75, 95, 99]))
    assert plain[16] == pytest.approx(base.mean())


def test_style_alone_tells_the_class_until_images_are_drawn_against_it(
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    pixels, positive, other = pictures
    by_style = class_by_style(measure_style(pixels), positive, np.arange(1000).astype(str))
    frequencies = style_frequencies(pixels, positive)
    assert roc_auc_score(positive, by_style) > 0.85
    assert roc_auc_score(positive, by_style, sample_weight=frequencies) == pytest.approx(0.5, abs=0.12)
    assert np.median(frequencies[other]) > 4 * np.median(frequencies[~other])
    assert frequencies.min() >= 1
    assert frequencies.max() <= 1 / LEAST_PROPENSITY


def test_where_style_tells_nothing_all_are_drawn_alike() -> None:
    pixels = np.random.default_rng(6).integers(0, 256, (2000, 16, 16, 1), dtype=np.uint8)
    frequencies = style_frequencies(pixels, np.arange(2000) % 2 == 0)
    assert np.median(frequencies) == pytest.approx(2.0, abs=0.1)
    assert np.ptp(np.quantile(frequencies, [0.05, 0.95])) < 1


def test_the_class_is_told_by_other_patients_images_only() -> None:
    """Each patient has a style of its own here, which says nothing of another's class."""
    rng = np.random.default_rng(7)
    patients = np.repeat(np.arange(30), 10)
    style = rng.normal(size=(30, 23))[patients] + 0.01 * rng.normal(size=(300, 23))
    by_style = class_by_style(style, patients % 2 == 0, patients.astype(str))
    assert roc_auc_score(patients % 2 == 0, by_style) < 0.8
