import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimscan_train.thresholds import (
    ScoredSet,
    choose_operating_point,
    lowest_threshold,
    threshold_at_sensitivity,
    threshold_interval,
)

#                    negatives            | positives
LOGITS = np.array([-4.0, -3.0, -1.0, 2.0, -2.0, 0.0, 1.0, 3.0, 5.0])
POSITIVE = np.array([False] * 4 + [True] * 5)


def scored(
    logits: np.ndarray = LOGITS, positive: np.ndarray = POSITIVE, patients: list[str] | None = None
) -> ScoredSet:
    names = patients or [f"p{index}" for index in range(len(logits))]
    return ScoredSet(logits=logits, positive=positive, patients=names)


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


def test_the_set_that_asks_for_the_lowest_threshold_decides() -> None:
    other = scored(LOGITS - 1.0)
    assert lowest_threshold([scored()], 0.8, 0.0) == pytest.approx(-0.5)
    assert lowest_threshold([scored(), other], 0.8, 0.0) == pytest.approx(-1.5)
    assert lowest_threshold([other, scored()], 0.8, 0.0) == pytest.approx(-1.5)


def test_a_set_without_a_positive_asks_for_nothing() -> None:
    healthy = scored(np.array([-9.0, -8.0]), np.array([False, False]))
    assert lowest_threshold([scored(), healthy], 0.8, 0.0) == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("specificity", "threshold"),
    [
        (0.5, -1.5),  # clears -4 and -3, which -1.5 does
        (0.51, -0.5),  # clears -1 too: midway to the positive 0
        (1.0, 2.5),  # clears 2: midway to the positive 3
    ],
)
def test_the_specificity_of_the_first_set_goes_first(specificity: float, threshold: float) -> None:
    other = scored(LOGITS - 1.0)
    assert lowest_threshold([scored(), other], 0.8, specificity) == pytest.approx(threshold)


def test_the_sensitivity_is_kept_wherever_the_specificity_leaves_room_for_it() -> None:
    """Between the last negative to be cleared and the next score there is room for a threshold that keeps both."""
    first = scored(np.array([0.0, 4.0, 5.0]), np.array([False, True, True]))
    other = scored(np.array([1.0, 0.5, 6.0]), np.array([True, False, True]))
    assert lowest_threshold([first, other], 1.0, 1.0) == pytest.approx(0.75)


@given(
    scores=st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=2, max_size=60),
    shift=st.floats(-5, 5),
    target=st.floats(0.5, 1.0),
    least=st.floats(0.0, 1.0),
)
def test_what_is_promised_is_kept(scores: list[tuple[float, bool]], shift: float, target: float, least: float) -> None:
    logits = np.array([score for score, _ in scores])
    positive = np.array([sick for _, sick in scores])
    positive[:2] = True, False
    sets = [scored(logits, positive), scored(logits + shift, positive)]
    threshold = lowest_threshold(sets, target, least)
    assert (logits[~positive] < threshold).mean() >= least - 1e-9
    unbound = lowest_threshold(sets, target, 0.0)
    assert all((s.logits[positive] >= unbound).mean() >= target - 1e-9 for s in sets)
    assert threshold >= unbound


def test_the_operating_point_keeps_the_sensitivity_after_calibration_and_sigmoid() -> None:
    point = choose_operating_point([scored()], target_sensitivity=0.8, least_specificity=0.0, chosen_on="nine images")
    assert point.logit_threshold == pytest.approx(-0.5)
    assert point.target_sensitivity == 0.8
    assert point.chosen_on == "nine images"
    assert point.refer_low <= point.threshold <= point.refer_high
    called = [point.probability(logit) >= point.threshold for logit in LOGITS]
    assert called == [False] * 3 + [True, False] + [True] * 4


def test_a_specificity_that_binds_is_kept_after_calibration_and_sigmoid() -> None:
    point = choose_operating_point([scored()], target_sensitivity=0.8, least_specificity=0.75, chosen_on="")
    called = np.array([point.probability(logit) >= point.threshold for logit in LOGITS])
    assert (~called[~POSITIVE]).mean() == 0.75


def test_the_refer_band_is_the_thresholds_interval() -> None:
    point = choose_operating_point([scored()], target_sensitivity=0.8, least_specificity=0.0, chosen_on="")
    low, high = threshold_interval([scored()], 0.8, 0.0)
    inside = [point.decide(point.probability(logit)) == "refer" for logit in LOGITS]
    assert inside == [bool(min(low, -0.5) <= logit < max(high, -0.5)) for logit in LOGITS]


def test_a_threshold_that_hangs_on_one_patient_has_a_wide_interval() -> None:
    logits = np.concatenate([np.linspace(1.0, 2.0, 200), [-5.0] * 3])
    positive = np.ones(203, np.bool_)
    apart = scored(logits, positive, [f"p{i}" for i in range(203)])
    alone = threshold_interval([apart], 0.985, 0.0)
    together = threshold_interval([scored(logits, positive, [f"p{min(i, 200)}" for i in range(203)])], 0.985, 0.0)
    assert alone == threshold_interval([apart], 0.985, 0.0)  # seeded
    assert together[0] == -5.0
    assert alone[0] == -5.0
    assert alone[1] <= together[1]


def test_the_interval_is_of_the_lowest_threshold_and_of_patients_drawn_in_all_sets_at_once() -> None:
    sets = [scored(), scored(LOGITS - 1.0)]
    low, high = threshold_interval(sets, 0.8, 0.0)
    alone = threshold_interval(sets[:1], 0.8, 0.0)
    assert (low, high) == pytest.approx((alone[0] - 1.0, alone[1] - 1.0))


def test_the_interval_of_scores_that_are_all_alike_has_no_width() -> None:
    alike = scored(np.full(50, 3.0), np.ones(50, np.bool_))
    assert threshold_interval([alike], 0.9, 0.0) == (3.0, 3.0)
