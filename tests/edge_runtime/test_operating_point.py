import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimscan_edge.operating_point import OperatingPoint

ORDER = {"negative": 0, "refer": 1, "positive": 2}


def operating_point(**changes: Any) -> OperatingPoint:
    values = {"target_sensitivity": 0.95, "refer_low": 0.4, "refer_high": 0.6, "chosen_on": "a table"}
    return OperatingPoint(**{**values, **changes})


@st.composite
def operating_points(draw: st.DrawFn) -> OperatingPoint:
    inside = st.floats(0.001, 0.999)
    low, threshold, high = sorted(draw(st.tuples(inside, inside, inside)))
    temperature = draw(st.floats(0.05, 20))
    return operating_point(temperature=temperature, threshold=threshold, refer_low=low, refer_high=high)


@pytest.mark.parametrize(
    ("logit", "temperature", "probability"),
    [
        (0.0, 1.0, 0.5),
        (math.log(3), 1.0, 0.75),  # odds of 3 to 1
        (-math.log(3), 1.0, 0.25),
        (2 * math.log(3), 2.0, 0.75),
        (1e6, 1.0, 1.0),  # no overflow at either end
        (-1e6, 1.0, 0.0),
    ],
)
def test_probability_is_the_sigmoid_of_the_logit_over_the_temperature(logit, temperature, probability):
    assert operating_point(temperature=temperature).probability(logit) == pytest.approx(probability)


def test_a_bias_is_added_to_the_logit_first():
    point = operating_point(temperature=2.0, bias=1.0, threshold=0.5, refer_low=0.5, refer_high=0.5)
    assert point.probability(3.0) == pytest.approx(1 / (1 + math.exp(-2.0)))
    assert point.logit_threshold == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("probability", "decision"),
    [(0.0, "negative"), (0.399, "negative"), (0.4, "refer"), (0.599, "refer"), (0.6, "positive"), (1.0, "positive")],
)
def test_the_refer_band_holds_its_lower_end_and_not_its_upper(probability, decision):
    assert operating_point().decide(probability) == decision


def test_an_empty_refer_band_refers_nothing():
    point = operating_point(refer_low=0.5, refer_high=0.5)
    assert [point.decide(p) for p in (0.499, 0.5, 0.501)] == ["negative", "positive", "positive"]


@given(operating_points(), st.floats(-60, 60), st.floats(-60, 60))
def test_a_higher_logit_never_gets_a_lower_decision(point, one, other):
    low, high = sorted((one, other))
    assert point.probability(low) <= point.probability(high)
    assert ORDER[point.decide(point.probability(low))] <= ORDER[point.decide(point.probability(high))]


@given(operating_points())
def test_the_logit_threshold_is_the_logit_of_the_threshold(point):
    assert point.probability(point.logit_threshold) == pytest.approx(point.threshold)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0},
        {"temperature": math.inf},
        {"temperature": math.nan},
        {"bias": math.inf},
        {"bias": math.nan},
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"threshold": math.nan},
        {"target_sensitivity": 0.0},
        {"target_sensitivity": 1.01},
        {"refer_low": 0.51},
        {"refer_high": 0.49},
        {"refer_low": -0.1},
        {"refer_high": 1.1},
        {"refer_low": math.nan},
    ],
)
def test_values_that_make_no_sense_are_refused(changes):
    with pytest.raises(ValueError, match=r"expected|must contain"):
        operating_point(**changes)
