"""Ours beside the other ways, on the same images in the same minutes: how long each takes, and who decides what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.bootstrap import Interval, draw_rounds, percentile_interval
from slimscan_bench.latency import BOOTSTRAP_SEED, Sample
from slimscan_bench.ways import Way
from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import InputError

RESAMPLES = 1000

Clock = Literal["wall", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What every way says of one image.

    Attributes:
        probability: Ours.
        decision: Ours.
        others: Each other way's probability.
        other_decisions: Each other way's decision at the same operating point.
    """

    probability: float
    decision: str
    others: Mapping[str, float]
    other_decisions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Our median over another way's.

    Attributes:
        ours_p50_ms: Median of ours.
        other_p50_ms: Median of the other way.
        interval: 95 % interval of the quotient; None with one image in one round.
    """

    ours_p50_ms: float
    other_p50_ms: float
    interval: Interval | None

    @property
    def value(self) -> float:
        """The quotient."""
        return self.ours_p50_ms / self.other_p50_ms


def answer_each(classifier: Classifier, ways: Mapping[str, Way], images: Sequence[Path]) -> tuple[Answer, ...]:
    """Let every way decide on every image, untimed.

    Raises:
        ImageError: An image is unreadable.
    """
    point = classifier.manifest.operating_point
    answers = []
    for path in images:
        finding = classifier.predict(path)
        others = {name: way(path) for name, way in ways.items()}
        answers.append(
            Answer(
                probability=finding.probability,
                decision=finding.decision,
                others=others,
                other_decisions={name: point.decide(probability) for name, probability in others.items()},
            )
        )
    return tuple(answers)


def share_decided_otherwise(answers: Sequence[Answer], way: str) -> float:
    """Share of the images on which a way's decision is not ours, 0 to 1."""
    return sum(answer.decision != answer.other_decisions[way] for answer in answers) / len(answers)


def p50_ratio(
    samples: Sequence[Sample], way: str, *, images: Sequence[int], clock: Clock = "wall", processes: int = 1
) -> Ratio:
    """Our median over another way's, all rounds over the given images taken together.

    The interval is a paired bootstrap: images and rounds are drawn, each with replacement and independently of the
    other (Owen 2007, The pigeonhole bootstrap), rounds from processes that are drawn too, and both medians are taken of
    the same draw. So it holds for other images of the same kind and other minutes and processes on the same machine.

    Args:
        samples: From `slimscan_bench.warm`; every image in every round.
        way: Name of the other way.
        images: Which images count, at least one.
        clock: What is compared, the time on the wall or processors' time.
        processes: In how many processes the rounds were taken.

    Raises:
        InputError: An image was not measured in every round.
    """
    ours, other = (times_ms(samples, name, images=images, clock=clock) for name in (None, way))
    return paired_ratio(ours, other, processes=processes)


def paired_ratio(ours: NDArray[np.float64], other: NDArray[np.float64], *, processes: int = 1) -> Ratio:
    """As `p50_ratio`, of milliseconds `[rounds, images]` that were taken in turn."""
    return Ratio(
        ours_p50_ms=float(np.median(ours)),
        other_p50_ms=float(np.median(other)),
        interval=_interval(ours, other, processes),
    )


def times_ms(
    samples: Sequence[Sample], way: str | None, *, images: Sequence[int], clock: Clock = "wall"
) -> NDArray[np.float64]:
    """Milliseconds `[rounds, images]` of ours (None) or another way.

    Raises:
        InputError: An image was not measured in every round.
    """
    wanted = {image: column for column, image in enumerate(images)}
    table = np.full((1 + max(sample.round for sample in samples), len(wanted)), np.nan)
    for sample in samples:
        if sample.image in wanted:
            taken = sample.taken if way is None else sample.others[way]
            table[sample.round, wanted[sample.image]] = taken.wall_ms if clock == "wall" else taken.cpu_ms
    if np.isnan(table).any():
        raise InputError("an image was not measured in every round, so that the rounds cannot be compared")
    return table


def _interval(ours: NDArray[np.float64], other: NDArray[np.float64], processes: int) -> Interval | None:
    if ours.size < 2:
        return None
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    rounds, images = ours.shape
    replicates = np.empty(RESAMPLES)
    for k in range(RESAMPLES):
        drawn = np.ix_(draw_rounds(generator, rounds, processes), generator.integers(images, size=images))
        replicates[k] = np.median(ours[drawn]) / np.median(other[drawn])
    return percentile_interval(replicates)
