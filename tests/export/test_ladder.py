"""The ladder's rules on planted rows: what is dropped, what is picked, and what the page and the screen say of it."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import pytest

from slimscan_bench.environment import read_environment
from slimscan_edge.bundle import GateResult, Verdict
from slimscan_export.ladder import LEAST_GAIN, PICK_RULE, TIE, Answers, Ladder, Row, in_lines
from slimscan_export.ladder_rows import RECIPES, with_references
from slimscan_export.plots import ladder_plots

ROUNDS = 40
NOISE = np.random.default_rng(0).normal(1.0, 0.01, ROUNDS)
"""A busy machine: the same in every row, since all have their turn in every round."""


def row(
    name: str,
    *,
    size: int = 100_000,
    deflated: int | None = None,
    ms: float = 1.0,
    verdict: Verdict = "PASS",
    own_noise: float = 0.0,
) -> Row:
    own = np.random.default_rng(sum(name.encode())).normal(1.0, own_noise, ROUNDS)
    return Row(
        recipe=RECIPES[name],
        size_bytes=size,
        deflated_bytes=size * 9 // 10 if deflated is None else deflated,
        sparsity=0.01,
        macs=43_000_000,
        arena_bytes=400_000,
        latencies_ms=tuple((ms * NOISE * own).tolist()),
        answers=(
            Answers(split="val", images=6, positives=4, auroc=0.99, new_misses=("a.png",), new_false_alarms=()),
            Answers(split="val_shift", images=3, positives=3, auroc=None, new_misses=(), new_false_alarms=()),
        ),
        gates=(
            GateResult(name="new misses", verdict=verdict, measured="1 of 4", allowed="at most 2 %"),
            GateResult(name="model size", verdict="PASS", measured="100,000 bytes", allowed="at most 400,000"),
        ),
        verdict=verdict,
        training_s=1.0,
        conversion_s=2.0,
        judging_s=3.0,
    )


def ladder(*rows: Row) -> Ladder:
    return Ladder(rows=rows, threads=1, environment=read_environment(interpreter="ai-edge-litert 2"))


def picked(rows: Sequence[Row]) -> str | None:
    pick = ladder(*rows).pick
    return pick.name if pick else None


def test_the_cheapest_int8_row_that_passes_is_picked():
    rows = [
        row("float32", size=10_000, ms=0.1),  # cheaper than all, but no bundle takes it
        row("int8-ptq"),
        row("channels-25", size=70_000, ms=0.8),
        row("channels-50", size=50_000, ms=0.7, verdict="FAIL"),
    ]
    assert picked(rows) == "channels-25"
    assert picked([*rows[:2], row("channels-25", size=70_000, ms=0.8, verdict="INCONCLUSIVE"), rows[3]]) == "int8-ptq"
    assert picked([*rows[:3], dataclasses.replace(rows[3], verdict="PASS", gates=rows[2].gates)]) == "channels-50"


def test_cost_is_the_product_of_latency_and_size():
    assert picked([row("int8-ptq", size=100_000, ms=1.0), row("int8-qat", size=120_000, ms=0.8)]) == "int8-qat"
    assert picked([row("int8-ptq", size=100_000, ms=1.0), row("int8-qat", size=130_000, ms=0.8)]) == "int8-ptq"


def test_among_equal_costs_the_file_that_deflates_smallest_is_picked():
    cheapest = row("int8-ptq", ms=1.0)
    assert picked([cheapest, row("int8-qat", ms=1 + TIE / 2, deflated=80_000)]) == "int8-qat"
    assert picked([cheapest, row("int8-qat", ms=1 + 2 * TIE, deflated=80_000)]) == "int8-ptq"


def test_without_a_row_that_passes_none_is_picked_and_the_nearest_is_named():
    fail, undecided = row("int8-ptq", size=10_000, verdict="FAIL"), row("int8-qat", verdict="INCONCLUSIVE")
    found = ladder(row("float32"), fail, undecided)
    assert found.pick is None
    assert found.nearest is undecided
    assert ladder(row("float32"), fail).nearest is fail
    worse = dataclasses.replace(row("int8-qat", size=5000, verdict="FAIL"), gates=fail.gates[:1] * 2)
    assert ladder(row("float32"), fail, worse).nearest is fail
    assert in_lines(found)[-1] == "no row qualifies; nearest: int8-qat"
    assert found.why_not(fail) == "new misses FAIL"


def test_a_pruned_row_without_gain_is_dropped_and_says_why():
    qat, zeros = row("int8-qat"), row("zeros-75", own_noise=0.01)
    found = ladder(qat, zeros)
    assert found.pick is qat
    assert re.match(
        r"dropped, its pruning gains nothing: against int8-qat its file changes by [+-]0\.0%, deflated by [+-]0\.0%, "
        r"its latency by [+-]0\.\d% \([+-]\d\.\d% to [+-]\d\.\d%\)",
        found.why_not(zeros),
    )
    assert ladder(qat, dataclasses.replace(zeros, verdict="FAIL")).nearest is qat
    assert found.why_not(qat) == ""
    assert found.rent(qat) is None


@pytest.mark.parametrize(
    "better",
    [
        {"size": round(100_000 * (1 - LEAST_GAIN)), "deflated": 90_000},
        {"deflated": round(90_000 * (1 - LEAST_GAIN))},
        {"ms": 1 - 1.5 * LEAST_GAIN},
    ],
)
def test_a_pruned_row_that_is_smaller_or_faster_is_kept(better):
    zeros = row("zeros-75", **better)
    assert ladder(row("int8-qat"), zeros).why_not(zeros) == ""


@pytest.mark.parametrize(
    "hardly",
    [
        {"size": round(100_000 * (1 - LEAST_GAIN / 2))},
        {"ms": 1 - LEAST_GAIN / 2},
        {"ms": 1 - 1.5 * LEAST_GAIN, "own_noise": 0.5},
        {"size": 120_000, "ms": 1.5},
    ],
)
def test_a_pruned_row_that_is_hardly_or_not_surely_better_is_dropped(hardly):
    zeros = row("zeros-75", **hardly)
    assert ladder(row("int8-qat"), zeros).why_not(zeros).startswith("dropped")


def test_a_pruned_row_is_held_against_its_own_recipe():
    """Smaller and faster than quantisation after training, but not than the quantisation-aware row."""
    rows = [row("int8-ptq", size=200_000, ms=2.0), row("int8-qat"), row("zeros-50"), row("channels-50")]
    found = ladder(*rows)
    assert found.why_not(rows[2]).startswith("dropped")
    assert found.why_not(rows[3]) == ""
    assert found.rent(rows[3]).against == "int8-ptq"
    assert found.rent(rows[3]).latency == pytest.approx(0.5)


def test_asked_rows_bring_those_that_they_are_held_against():
    assert [recipe.name for recipe in with_references(["channels-50"])] == ["float32", "int8-ptq", "channels-50"]
    assert [recipe.name for recipe in with_references(["zeros-75", "dynamic"])] == [
        "float32",
        "dynamic",
        "int8-qat",
        "zeros-75",
    ]
    assert [recipe.name for recipe in with_references(list(RECIPES))] == list(RECIPES)


def test_the_front_holds_what_passes_and_nothing_that_passes_is_both_smaller_and_faster_than():
    small, fast, beaten = row("int8-ptq", size=1000, ms=2.0), row("int8-qat", size=2000), row("float32", size=3000)
    assert ladder(beaten, small, fast).front == (small, fast)
    failed = row("dynamic", size=10, ms=0.1, verdict="FAIL")
    assert ladder(beaten, small, fast, failed).front == (small, fast)
    as_good = row("zeros-50", size=2000)
    assert ladder(beaten, small, fast, as_good).front == (small, fast, as_good)


def test_the_screen_shows_every_row_the_rule_and_the_pick():
    lines = in_lines(ladder(row("float32", size=400_000, ms=2.0), row("int8-ptq")))
    assert lines[1].split()[:2] == ["float32", "400,000"]
    assert "not for a bundle" in lines[1]
    assert lines[2].split() == [
        "int8-ptq",
        "100,000",
        "90,000",
        "43.0",
        lines[2].split()[4],
        "0.9900",
        "/",
        "-",
        "1",
        "0",
        "PASS",
    ]
    assert lines[-2:] == [PICK_RULE, "picked: int8-ptq"]


def numbers(svg: str) -> set[str]:
    """What is written at the points of a picture."""
    return set(re.findall(r">\s*([\d, –]+?)\s*</text>", svg))


def test_pictures_show_every_row_by_its_number_and_those_in_one_place_together():
    rows = [row("float32", size=400_000, ms=2.0), row("int8-ptq"), row("int8-qat", size=100_100, verdict="FAIL")]
    found = ladder_plots(ladder(*rows))
    assert sorted(found) == ["auroc", "cost"]
    assert {"1", "2–3"} <= numbers(found["cost"])
    assert {"1, 3", "2"} <= numbers(ladder_plots(ladder(rows[1], rows[0], rows[2]))["cost"])
    rows[2] = row("int8-qat", size=50_000)
    for svg in ladder_plots(ladder(*rows)).values():
        assert svg.startswith("<svg")
        assert {"1", "2", "3"} <= numbers(svg)


def test_a_ladder_of_which_nothing_passes_has_pictures_too():
    assert numbers(
        ladder_plots(ladder(row("float32", verdict="FAIL"), row("int8-ptq", size=1, verdict="FAIL")))["cost"]
    )
