import numpy as np
import pytest

from slimscan_train.reliability import BINS, ReliabilityBin, expected_calibration_error, reliability_bins


def test_bins_hold_equal_numbers_from_low_to_high() -> None:
    probabilities = np.array([0.9, 0.1, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6, 0.5, 0.05, 0.95, 0.35])
    bins = reliability_bins(probabilities, probabilities > 0.45)
    assert [part.images for part in bins] == [2, 2] + [1] * 8
    assert [part.probability for part in bins][:3] == pytest.approx([0.075, 0.25, 0.35])
    assert [part.observed for part in bins] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_fewer_images_than_bins_make_fewer_bins() -> None:
    assert len(reliability_bins(np.array([0.2, 0.8, 0.5]), np.array([False, True, True]))) == 3 < BINS


def test_the_error_weighs_each_gap_by_its_images() -> None:
    bins = (
        ReliabilityBin(images=8, positives=2, probability=0.15),  # observed 0.25, gap 0.1
        ReliabilityBin(images=2, positives=1, probability=0.9),  # observed 0.5, gap 0.4
    )
    assert expected_calibration_error(bins) == pytest.approx((8 * 0.1 + 2 * 0.4) / 10)


def test_probabilities_that_come_true_have_no_error() -> None:
    probabilities = np.repeat([0.0, 1.0], 50)
    assert expected_calibration_error(reliability_bins(probabilities, probabilities == 1.0)) == 0.0
