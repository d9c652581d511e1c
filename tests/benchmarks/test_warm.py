"""Warm answers of real processes."""

from pathlib import Path

import numpy as np
import pytest

from slimscan_bench.bootstrap import draw_rounds
from slimscan_bench.latency import Distribution
from slimscan_bench.side_by_side import paired_ratio
from slimscan_bench.warm import measure_warm
from slimscan_edge.errors import InterpreterError


def test_processes_follow_each_other_and_their_rounds_are_counted_through(golden_bundle_path, pictures, monkeypatch):
    monkeypatch.chdir(pictures[0].parent)
    done = []
    samples = measure_warm(
        golden_bundle_path,
        [path.relative_to(Path.cwd()) for path in pictures],
        threads=1,
        processes=2,
        warmup=1,
        repeats=2,
        ways=("floor",),
        progress=done.append,
    )
    assert done == [1, 2, 3, 4, 5, 6]
    assert [(sample.round, sample.image) for sample in samples] == [(r, i) for r in range(4) for i in range(2)]
    for sample in samples:
        assert set(sample.others) == {"floor"}
        assert sample.taken.wall_ms >= sample.timings.total_ms > 0


def test_a_process_that_stops_is_told_of(golden_bundle_path, tmp_path):
    with pytest.raises(InterpreterError, match=r"stopped: it ended with exit code 1: .*gone\.jpeg.*slimscan doctor"):
        measure_warm(golden_bundle_path, [tmp_path / "gone.jpeg"], threads=1, processes=1, warmup=0, repeats=1)


def test_rounds_are_drawn_from_processes_that_are_drawn():
    generator = np.random.default_rng(1)
    draws = np.array([draw_rounds(generator, 6, 3) for _ in range(500)])
    assert set(draws.ravel()) == set(range(6))
    processes = (draws // 2).reshape(500, 3, 2)
    assert (processes[:, :, 0] == processes[:, :, 1]).all()  # the two rounds of a draw are of one process
    assert 1 < np.mean([len(set(row.ravel())) for row in processes]) < 3


def test_processes_that_differ_widen_the_interval():
    """Four processes of ten calm rounds each: as one, the rounds hide that the next process may be elsewhere."""
    levels = np.repeat([1.0, 1.3, 0.8, 1.1], 10)
    values = {"values": tuple(levels), "rounds": tuple(range(40))}
    one, four = Distribution(**values).p50_interval, Distribution(**values, processes=4).p50_interval
    assert four.high - four.low > one.high - one.low
    ours, other = levels[:, np.newaxis] * np.ones((1, 5)), np.ones((40, 5))
    narrow, wide = (paired_ratio(ours, other, processes=count).interval for count in (1, 4))
    assert wide.high - wide.low > narrow.high - narrow.low
