import dataclasses

import numpy as np
import pytest

from slimscan_bench.latency import Sample, Taken
from slimscan_bench.side_by_side import Answer, answer_each, p50_ratio, share_decided_otherwise
from slimscan_edge.classifier import Timings
from slimscan_edge.errors import InputError

TIMINGS = Timings(decode_ms=1.0, resize_ms=0.0, invoke_ms=0.0, decide_ms=0.0)


def taken(wall_ms):
    return Taken(wall_ms=wall_ms, cpu_ms=1.0)


def samples(ours, other):
    """Samples of tables of milliseconds `[rounds, images]`."""
    return tuple(
        Sample(
            image=i,
            round=r,
            timings=TIMINGS,
            taken=taken(ours[r][i]),
            calibration=taken(1.0),
            others={"other": taken(other[r][i])},
        )
        for r in range(len(ours))
        for i in range(len(ours[0]))
    )


def test_the_ratio_is_that_of_the_medians():
    ratio = p50_ratio(samples([[2.0, 4.0, 90.0]], [[8.0, 10.0, 11.0]]), "other", images=(0, 1, 2))
    assert (ratio.ours_p50_ms, ratio.other_p50_ms, ratio.value) == (4.0, 10.0, 0.4)


def test_processors_time_is_compared_where_it_is_asked_for():
    ratio = p50_ratio(samples([[2.0, 4.0]], [[8.0, 10.0]]), "other", images=(0, 1), clock="cpu")
    assert (ratio.ours_p50_ms, ratio.value, ratio.interval) == (1.0, 1.0, (1.0, 1.0))


def test_only_the_images_asked_for_count():
    ratio = p50_ratio(samples([[2.0, 4.0, 90.0]], [[8.0, 10.0, 11.0]]), "other", images=(2,))
    assert ratio.value == pytest.approx(90 / 11)
    assert ratio.interval is None


def test_the_interval_is_paired_so_what_slows_both_alike_widens_nothing():
    slowness = np.random.default_rng(0).lognormal(0, 1, (8, 30))  # of the machine and of the images
    ratio = p50_ratio(samples(0.6 * slowness, slowness), "other", images=range(30))
    assert ratio.value == pytest.approx(0.6)
    assert ratio.interval == pytest.approx((0.6, 0.6))


def test_the_interval_covers_a_planted_ratio_and_shrinks_with_more_images():
    rng = np.random.default_rng(1)

    def interval(images):
        base = rng.lognormal(0, 0.3, (6, images))
        noise = rng.lognormal(0, 0.1, (2, 6, images))
        return p50_ratio(samples(0.8 * base * noise[0], base * noise[1]), "other", images=range(images)).interval

    few, many = interval(10), interval(300)
    assert many.low < 0.8 < many.high
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_rounds_of_one_image_give_an_interval_too():
    ratio = p50_ratio(samples([[1.0], [1.0], [3.0]], [[2.0], [2.0], [2.0]]), "other", images=(0,))
    assert ratio.value == 0.5
    assert ratio.interval.low == 0.5
    assert ratio.interval.high == 1.5


def test_an_image_without_a_round_is_refused():
    with pytest.raises(InputError, match="not measured in every round"):
        p50_ratio(samples([[1.0, 1.0], [1.0, 1.0]], [[2.0, 2.0], [2.0, 2.0]])[:-1], "other", images=(0, 1))


def test_a_way_that_decides_otherwise_is_found_out(classifier):
    bright, dark = np.full((40, 40), 230, np.uint8), np.full((40, 40), 20, np.uint8)
    ways = {"right": lambda pixels: float(pixels.mean() > 128), "wrong": lambda pixels: 0.99}
    answers = answer_each(classifier, ways, [bright, dark, dark, dark])
    assert [answer.decision for answer in answers] == ["positive", "negative", "negative", "negative"]
    assert share_decided_otherwise(answers, "right") == 0.0
    assert share_decided_otherwise(answers, "wrong") == 0.75
    assert isinstance(answers[0], Answer)
    assert answers[1].others == {"right": 0.0, "wrong": 0.99}
    assert dataclasses.asdict(answers[1])["other_decisions"]["wrong"] == "positive"
