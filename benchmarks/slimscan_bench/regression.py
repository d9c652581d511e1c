"""Whether a new bundle or build is faster or slower than an old one, or whether nobody can tell.

The quantity is the ratio of times, new over old, paired by image. It is `slower` only where the whole 95 % interval
lies above 1 + margin, `faster` only where all of it lies below 1 / (1 + margin). The margins are several times what two
measurements of one and the same build differ by beyond their intervals:

- in turn (`slimscan_bench.turns`): pairs of processes are the clusters, 3 %;
- two records taken one after the other: each answer is divided by the fixed work done right after it
  (`slimscan_bench.calibration`), rounds are the clusters, and one process on each side hides what differs from
  process to process, so 4 %;
- instructions (`slimscan_bench.instructions`), which repeat to a fraction of a percent: 1 %, and they decide alone
  where both records hold them.

Processors' time decides unless asked otherwise: it is what an answer costs, whoever else is at work. Waiting costs
nothing there, so the time on the wall is given beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.bootstrap import Interval, draw_rounds, percentile_interval
from slimscan_bench.latency import BOOTSTRAP_SEED, Taken
from slimscan_bench.side_by_side import RESAMPLES, Clock
from slimscan_bench.turns import Turn
from slimscan_edge.errors import InputError

MARGIN_IN_TURN = 0.03
MARGIN_BETWEEN_RUNS = 0.04
MARGIN_INSTRUCTIONS = 0.01
MIN_PAIRS = 5
"""Pairs of processes below which Student's quantile is not computed closely enough, and the interval is too wide."""
MIN_ROUNDS = 5
"""Rounds of a record below which their bootstrap is far too narrow."""

Verdict = Literal["faster", "slower", "cannot tell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How many times the old one's the new one's figure is.

    Attributes:
        what: What was measured.
        ratio: New over old.
        interval: 95 % interval; both ends are the ratio where it is counted.
        margin: By how much all of the interval must differ from 1.
        counted: It is of counts, which neither noise nor throttling touches.
    """

    what: str
    ratio: float
    interval: Interval
    margin: float
    counted: bool = False

    @property
    def verdict(self) -> Verdict:
        """What the interval shows."""
        if self.interval.low > 1 + self.margin:
            return "slower"
        return "faster" if self.interval.high < 1 / (1 + self.margin) else "cannot tell"

    @property
    def excludes_slower(self) -> bool:
        """Whether being slower by more than the margin is ruled out."""
        return self.interval.high <= 1 + self.margin


def change_in_turn(turns: Sequence[Turn], clock: Clock) -> Change:
    """The ratio of answers given in turn.

    Of each pair of processes: of each image the median over rounds of log(new/old), then the mean over images. The
    interval is Student's over the pairs.

    Raises:
        InputError: There are fewer than `MIN_PAIRS` pairs.
    """
    logs = np.array([math.log(_clock(turn.new, clock) / _clock(turn.old, clock)) for turn in turns])
    pair, image = (np.array([getattr(turn, name) for turn in turns]) for name in ("pair", "image"))
    means = [np.mean([np.median(logs[(pair == p) & (image == i)]) for i in np.unique(image)]) for p in np.unique(pair)]
    return Change(
        what=_WHAT[clock],
        ratio=float(np.exp(np.mean(means))),
        interval=_student_interval(np.array(means)),
        margin=MARGIN_IN_TURN,
    )


def change_between_runs(
    old: NDArray[np.float64], new: NDArray[np.float64], clock: Clock, *, processes: tuple[int, int] = (1, 1)
) -> Change:
    """The ratio of two runs that were taken one after the other.

    Of each image the median over rounds of log(answer / fixed work), new less old, then the mean over images. The
    interval is a bootstrap of images, drawn for both runs together, and of processes and rounds, drawn for each run by
    itself.

    Args:
        old: Answers over fixed work, float64 `[rounds, images]`.
        new: The same of the other run, of as many images.
        clock: What they were taken by, for the record.
        processes: In how many processes the rounds of either were taken.

    Raises:
        InputError: There are fewer than `MIN_ROUNDS` rounds.
    """
    for table in (old, new):
        if len(table) < MIN_ROUNDS:
            raise InputError(
                f"a record holds {len(table)} rounds, expected {MIN_ROUNDS} or more; measure more --repeats"
            )
    logs = np.log(old), np.log(new)

    def statistic(rounds: Sequence[NDArray[np.intp]], images: NDArray[np.intp]) -> float:
        one, other = (np.median(table[drawn][:, images], axis=0) for table, drawn in zip(logs, rounds, strict=True))
        return float(np.exp(np.mean(other - one)))

    generator = np.random.default_rng(BOOTSTRAP_SEED)
    images = old.shape[1]

    def replicate() -> float:
        rounds = [draw_rounds(generator, len(table), count) for table, count in zip(logs, processes, strict=True)]
        return statistic(rounds, generator.integers(images, size=(images,)))

    replicates = [replicate() for _ in range(RESAMPLES)]
    return Change(
        what=f"{_WHAT[clock]} over fixed work's",
        ratio=statistic([np.arange(len(table)) for table in logs], np.arange(images)),
        interval=percentile_interval(np.array(replicates)),
        margin=MARGIN_BETWEEN_RUNS,
    )


def change_of_instructions(old: float, new: float) -> Change:
    """The ratio of instructions that one more answer takes, which are counted."""
    ratio = new / old
    return Change(
        what="instructions of an answer",
        ratio=ratio,
        interval=Interval(ratio, ratio),
        margin=MARGIN_INSTRUCTIONS,
        counted=True,
    )


def student_quantile(degrees: int) -> float:
    """The 0.975 quantile of Student's distribution (Abramowitz and Stegun 26.7.5, to 0.3 % from 4 degrees on).

    SciPy has it exactly, but not on the device.
    """
    z = NormalDist().inv_cdf(0.975)
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )


_WHAT = {"wall": "time on the wall", "cpu": "processors' time"}


def _clock(taken: Taken, clock: Clock) -> float:
    return taken.wall_ms if clock == "wall" else taken.cpu_ms


def _student_interval(logs: NDArray[np.float64]) -> Interval:
    if len(logs) < MIN_PAIRS:
        raise InputError(f"got {len(logs)} pairs of processes, expected {MIN_PAIRS} or more")
    reach = student_quantile(len(logs) - 1) * float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
    centre = float(np.mean(logs))
    return Interval(math.exp(centre - reach), math.exp(centre + reach))
