import numpy as np
import pytest

from slimscan_bench.intervals import delong_interval
from slimscan_train.intervals import Estimate, clustered_auroc, proportion

POSITIVE = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0], np.bool_)
SCORES = np.array([2.5, 1.5, 1.0, 0.2, -0.5, 0.9, 0.2, -0.1, -0.7, -1.2, -2.0])
ALONE = [f"patient {i}" for i in range(len(SCORES))]


def test_a_proportion_has_its_exact_interval() -> None:
    # 3 of 4: the roots of the binomial tails at 0.025, as tabulated
    assert proportion(3, 4) == Estimate(
        value=0.75, low=pytest.approx(0.19412, abs=1e-5), high=pytest.approx(0.99369, abs=1e-5)
    )
    assert proportion(0, 0) is None


def test_auroc_counts_pairs_with_ties_half() -> None:
    found = clustered_auroc(POSITIVE, SCORES, ALONE)
    assert found is not None
    # of 30 pairs: 6 + 6 + 6 + (4 + 1/2) + 3
    assert found.value == pytest.approx(25.5 / 30)


def test_with_one_image_a_patient_the_interval_is_delongs() -> None:
    found = clustered_auroc(POSITIVE, SCORES, ALONE)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(delong_interval(POSITIVE, SCORES)))


def test_copies_of_a_patients_images_add_no_certainty() -> None:
    once = clustered_auroc(POSITIVE, SCORES, ALONE)
    assert once is not None
    twice = clustered_auroc(np.tile(POSITIVE, 3), np.tile(SCORES, 3), ALONE * 3)
    assert twice is not None
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high))


def test_patients_with_images_of_both_classes_are_counted_once() -> None:
    positive = np.array([1, 0, 1, 0, 1, 0], np.bool_)
    scores = np.array([2.0, 1.0, 3.0, 2.5, 0.5, 0.0])
    patients = ["a", "a", "b", "b", "c", "c"]
    found = clustered_auroc(positive, scores, patients)
    assert found is not None
    # Placements 2/3, 1, 1/3 and 2/3, 1/3, 1 around 2/3: by patient (0, 0), (1/3, -1/3), (-1/3, 1/3), each over 3;
    # 3/2 (2/81) + 3/2 (2/81) - 2 (3/2) (2/81) = 0: each patient's own pair is ordered, which is all that varies.
    assert found.value == found.low == found.high == pytest.approx(2 / 3)


def test_a_perfect_ranking_is_only_as_sure_as_its_patients_are_many() -> None:
    positive = np.array([1, 1, 1, 0, 0, 0, 0], np.bool_)
    found = clustered_auroc(positive, np.arange(7.0)[::-1], ["a", "a", "b", "c", "d", "e", "f"])
    assert found == proportion(2, 2)


def test_one_patient_of_a_class_says_nothing() -> None:
    positive = np.array([1, 1, 0, 0], np.bool_)
    found = clustered_auroc(positive, np.array([1.0, 2.0, 1.5, 0.0]), ["a", "a", "b", "c"])
    assert found == Estimate(value=0.75, low=0.0, high=1.0)


@pytest.mark.parametrize("value", [True, False])
def test_no_auroc_without_both_classes(value: bool) -> None:
    assert clustered_auroc(np.full(3, value), np.arange(3.0), ["a", "b", "c"]) is None
