import pytest

from slimscan_bench.bootstrap import Interval
from slimscan_bench.bounds import Bound, Held, exact

BOUND = Bound(name="p50 over another's", at_most=0.7, why="for the test")


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (0.60, 0.65, 0.70, "PASS"),
        (0.60, 0.65, 0.71, "INCONCLUSIVE"),
        (0.69, 0.75, 0.80, "INCONCLUSIVE"),
        (0.70, 0.75, 0.80, "INCONCLUSIVE"),
        (0.71, 0.75, 0.80, "FAIL"),
    ],
)
def test_a_bound_is_kept_or_missed_only_when_all_of_the_interval_says_so(low, value, high, verdict):
    held = Held(bound=BOUND, value=value, interval=Interval(low, high))
    assert held.verdict == verdict
    assert bool(held.excess) == (verdict != "PASS")


def test_what_is_missed_is_told_with_the_amount():
    missed = Held(bound=BOUND, value=0.75, interval=Interval(0.72, 0.8))
    assert missed.excess == "p50 over another's: at most 0.7 allowed, got 0.75, 0.05 too much"


def test_what_cannot_be_told_says_between_what():
    unsure = Held(bound=BOUND, value=0.69, interval=Interval(0.6, 0.8))
    assert unsure.excess.endswith("got 0.69 (0.6 to 0.8): measure more to tell")
    assert "no interval" in Held(bound=BOUND, value=0.1, interval=None).excess


def test_nothing_passes_unmeasured():
    absent = exact(BOUND, None)
    assert absent.verdict == "INCONCLUSIVE"
    assert absent.excess.endswith("not measured")


@pytest.mark.parametrize(("value", "verdict"), [(0.7, "PASS"), (0.701, "FAIL")])
def test_a_counted_value_needs_no_interval(value, verdict):
    assert exact(BOUND, value).verdict == verdict
