import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimscan_train.metrics import (
    choose_operating_point,
    cross_entropy,
    figures,
    fit_calibration,
    threshold_at_sensitivity,
    threshold_interval,
)

#                    negatives            | positives
LOGITS = np.array([-4.0, -3.0, -1.0, 2.0, -2.0, 0.0, 1.0, 3.0, 5.0])
POSITIVE = np.array([False] * 4 + [True] * 5)


def calibrated(temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits in 81 bins of 10,000 images with as many positives as they say, times a temperature."""
    logits, positive = [], []
    for logit in np.linspace(-4, 4, 81):
        positives = round(10_000 / (1 + math.exp(-logit)))
        logits.append(np.full(10_000, logit * temperature))
        positive.append(np.arange(10_000) < positives)
    return np.concatenate(logits), np.concatenate(positive)


def test_figures_counted_by_hand() -> None:
    found = figures(LOGITS, POSITIVE, 1.0)
    assert found.sensitivity == pytest.approx(3 / 5)  # 1, 3 and 5
    assert found.specificity == pytest.approx(3 / 4)  # all but 2
    # Pairs in the right order: -2 beats two negatives, 0 and 1 three each, 3 and 5 all four.
    assert found.auroc == pytest.approx((2 + 3 + 3 + 4 + 4) / 20)
    assert found.loss == pytest.approx(
        np.mean([math.log1p(math.exp(-z if sick else z)) for z, sick in zip(LOGITS, POSITIVE, strict=True)])
    )


@pytest.mark.parametrize(
    ("target", "threshold"),
    [
        (1.0, -2.5),  # keeps -2; midway to -3
        (0.8, -0.5),  # may miss one: keeps 0; midway to -1
        (0.81, -2.5),  # four of five are not enough
        (0.6, 0.5),  # keeps 1; midway to the positive 0
        (0.4, 2.5),  # keeps 3; midway to the negative 2
    ],
)
def test_threshold_at_a_sensitivity(target: float, threshold: float) -> None:
    assert threshold_at_sensitivity(LOGITS, POSITIVE, target) == pytest.approx(threshold)


def test_threshold_with_ties_and_with_nothing_below() -> None:
    tied = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    assert threshold_at_sensitivity(tied, np.array([True, True, True, False, False]), 2 / 3) == pytest.approx(0.5)
    assert threshold_at_sensitivity(tied[:4], np.array([True, True, False, False]), 1.0) == 1.0


@given(
    scores=st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=2, max_size=60),
    target=st.floats(0.5, 1.0),
)
def test_the_threshold_always_keeps_the_sensitivity(scores: list[tuple[float, bool]], target: float) -> None:
    logits = np.array([score for score, _ in scores])
    positive = np.array([sick for _, sick in scores])
    positive[0] = True
    threshold = threshold_at_sensitivity(logits, positive, target)
    assert (logits[positive] >= threshold).mean() >= target - 1e-9


def test_cross_entropy_of_a_coin_and_of_certainty() -> None:
    assert cross_entropy(np.zeros(2), np.array([True, False])) == pytest.approx(math.log(2))
    assert cross_entropy(np.array([2.0]), np.array([True])) == pytest.approx(math.log1p(math.exp(-2)))


def test_cross_entropy_does_not_overflow() -> None:
    with np.errstate(over="raise", invalid="raise"):
        assert cross_entropy(np.array([1e4, -1e4]), np.array([True, False])) == 0.0
        assert cross_entropy(np.array([1e4, -1e4]), np.array([False, True])) == 1e4


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("bias", [-1.5, 0.0, 0.7])
def test_a_known_calibration_is_found(temperature: float, bias: float) -> None:
    logits, positive = calibrated(temperature)
    assert fit_calibration(logits - bias, positive) == pytest.approx((temperature, bias), rel=5e-3, abs=5e-3)


def test_calibration_stays_in_its_bounds_when_classes_are_apart_or_swapped() -> None:
    logits, positive = np.repeat([1.0, -1.0], 50), np.repeat([True, False], 50)
    temperature, bias = fit_calibration(logits, positive)
    assert bias == pytest.approx(0.0, abs=1e-6)
    assert 1 / (1 + math.exp(-1 / temperature)) == pytest.approx(51 / 52, rel=1e-3)  # Platt's target, not certainty
    assert fit_calibration(-logits, positive)[0] == pytest.approx(20.0, rel=1e-3)


def test_the_operating_point_keeps_the_sensitivity_after_calibration_and_sigmoid() -> None:
    patients = [f"p{index}" for index in range(len(LOGITS))]
    point = choose_operating_point(LOGITS, POSITIVE, patients, target_sensitivity=0.8, chosen_on="nine images")
    assert point.logit_threshold == pytest.approx(-0.5)
    assert point.target_sensitivity == 0.8
    assert point.chosen_on == "nine images"
    assert point.refer_low <= point.threshold <= point.refer_high
    called = [point.probability(logit) >= point.threshold for logit in LOGITS]
    assert called == [False] * 3 + [True, False] + [True] * 4


def test_the_refer_band_is_the_thresholds_interval() -> None:
    patients = [f"p{index}" for index in range(len(LOGITS))]
    point = choose_operating_point(LOGITS, POSITIVE, patients, target_sensitivity=0.8, chosen_on="nine images")
    low, high = threshold_interval(LOGITS, POSITIVE, patients, 0.8)
    inside = [point.decide(point.probability(logit)) == "refer" for logit in LOGITS]
    assert inside == [bool(min(low, -0.5) <= logit < max(high, -0.5)) for logit in LOGITS]


def test_a_threshold_that_hangs_on_one_patient_has_a_wide_interval() -> None:
    logits = np.concatenate([np.linspace(1.0, 2.0, 200), [-5.0] * 3])
    positive = np.ones(203, np.bool_)
    alone = threshold_interval(logits, positive, [f"p{i}" for i in range(203)], 0.985)
    together = threshold_interval(logits, positive, [f"p{min(i, 200)}" for i in range(203)], 0.985)
    assert alone == threshold_interval(logits, positive, [f"p{i}" for i in range(203)], 0.985)  # seeded
    assert together[0] == -5.0
    assert alone[0] == -5.0
    assert alone[1] <= together[1]


def test_the_interval_of_scores_that_are_all_alike_has_no_width() -> None:
    assert threshold_interval(np.full(50, 3.0), np.ones(50, np.bool_), [str(i) for i in range(50)], 0.9) == (3.0, 3.0)
