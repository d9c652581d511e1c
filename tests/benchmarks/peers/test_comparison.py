"""What is computed from a planted run, and which aims it keeps to."""

import json
import math

import numpy as np
import pytest

from slimscan_bench.peers.comparison import PeerComparison, quantiles
from slimscan_bench.peers.scores import logit_of_score
from slimscan_bench.peers.targets import right_peers, targets, why_missed
from slimscan_edge.errors import InputError
from slimscan_edge.operating_point import OperatingPoint


def verdicts(record: PeerComparison) -> list[str]:
    return [held.verdict for held, _ in targets(record)]


def test_figures_are_those_that_were_planted(planted):
    record = planted()
    assert record.ours.p50_ms == 5.5
    assert record.ratio("litert").value == 0.5
    assert record.ratio("litert").interval == (0.5, 0.5)  # paired: what all images differ by widens nothing
    assert record.start_ratio("tensorflow").value == 0.05
    assert list(record.times_ours("tensorflow")) == [3.0] * 10
    assert record.ours.stages_p50_ms == {"decode": 2.75, "rest": 2.75}
    assert record.auroc("litert") == 1.0
    assert [run.name for run in record.peers] == ["litert", "tensorflow"]


def test_all_aims_are_kept_and_each_says_against_whom(planted):
    assert verdicts(planted()) == ["PASS"] * 6
    assert [against for _, against in targets(planted())] == [
        *("litert", "floor", "litert", "tensorflow", "litert", "tensorflow"),
    ]


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"litert": {"ms": 1.4, "start_ms": 120.0, "memory": 55.0}}, [0]),
        ({"floor": {"ms": 0.8, "start_ms": 90.0, "memory": 45.0}}, [1]),
        ({"litert": {"ms": 2.0, "start_ms": 99.0, "memory": 55.0}}, [2]),
        ({"tensorflow": {"ms": 3.0, "start_ms": 900.0, "memory": 600.0}}, [3]),
        ({"litert": {"ms": 2.0, "start_ms": 120.0, "memory": 49.0}}, [4]),
        ({"tensorflow": {"ms": 3.0, "start_ms": 2000.0, "memory": 300.0}}, [5]),
    ],
)
def test_each_aim_is_missed_alone(planted, changed, missed):
    record = planted(**changed)
    assert [i for i, verdict in enumerate(verdicts(record)) if verdict == "FAIL"] == missed
    held, against = targets(record)[missed[0]]
    assert record.run(against).title in why_missed(record, held, against)


def test_a_peer_that_is_fast_by_being_wrong_is_no_measure(planted):
    hasty = {"ms": 0.1, "start_ms": 1.0, "memory": 1.0}
    assert verdicts(planted(litert=hasty)) != ["PASS"] * 6
    wrong = planted(litert={**hasty, "wrong": 2})
    assert [run.name for run in right_peers(wrong)] == ["tensorflow"]
    assert verdicts(wrong) == ["PASS"] * 6
    assert wrong.same_decisions("litert") == 8
    assert wrong.auroc("litert") == pytest.approx(20 / 25)  # ties count half


def test_without_a_peer_an_aim_is_inconclusive(planted):
    record = planted()
    alone = PeerComparison.from_table(
        {**json.loads(json.dumps(record.to_table())), "runs": json.loads(json.dumps(record.to_table()))["runs"][:1]},
        where="it",
    )
    assert verdicts(alone) == ["INCONCLUSIVE"] * 6
    with pytest.raises(InputError, match="no figures of ours"):
        PeerComparison.from_table({**json.loads(json.dumps(record.to_table())), "runs": []}, where="it")


def test_without_both_classes_there_is_no_auroc(planted):
    table = json.loads(json.dumps(planted().to_table()))
    unknown = PeerComparison.from_table({**table, "truths": [None] * 9 + [True]}, where="it")
    assert unknown.auroc("slimscan") is None


def test_quantiles_have_intervals_that_cover_the_planted_ones():
    values = np.random.default_rng(0).exponential(1.0, (20, 50))
    found = quantiles(values, processes=1)
    for quantile, (value, interval) in found.items():
        assert interval is not None
        assert interval.low <= value <= interval.high
        assert interval.low < -math.log(1 - quantile) < interval.high
    assert quantiles(np.array([[2.0]]), processes=1)[0.5] == (2.0, None)


@pytest.mark.parametrize("logit", [-4.0, 0.3, 2.0])
def test_a_twins_score_is_read_as_the_bundles_probability(logit):
    point = OperatingPoint(
        temperature=0.6,
        bias=1.8,
        threshold=0.15,
        target_sensitivity=0.98,
        refer_low=0.12,
        refer_high=0.3,
        chosen_on="by hand",
    )
    # Of slimscan_export.mobile: the top label changes where the bundle's decision does.
    score = 1.0 / (1.0 + math.exp((point.logit_threshold - logit) / point.temperature))
    assert logit_of_score(score, point) == pytest.approx(logit)
    assert logit_of_score(0.5, point) == pytest.approx(point.logit_threshold)
    assert math.isfinite(logit_of_score(1.0, point))
    assert math.isfinite(logit_of_score(0.0, point))
