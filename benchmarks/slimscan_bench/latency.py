"""How long answers take: every stage of every image, measured warm and kept raw. Base dependencies only."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from slimscan_bench.bootstrap import Interval, draw_rounds, percentile_interval
from slimscan_bench.calibration import spin
from slimscan_bench.ways import Way
from slimscan_edge.classifier import Classifier, Finding, Timings
from slimscan_edge.errors import InputError

STAGES = ("decode", "resize", "invoke", "decide", "total")
MIN_VALUES_FOR_P99 = 100
BOOTSTRAP_SEED = 0
"""Of the intervals of medians; the values themselves are kept, so any other seed can be tried."""
_OURS = "slimscan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one whole answer took.

    Attributes:
        wall_ms: By the clock on the wall: what one waits, other programs included.
        cpu_ms: Of processors' time in all threads: what it costs, whoever else is at work.
    """

    wall_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer for one image, and the other ways' right before or after it.

    Attributes:
        image: Which of the images, from 0.
        round: Which of the rounds over all images, from 0; those of the first process come first.
        timings: Milliseconds of each stage.
        taken: The whole of it, as the other ways were timed.
        calibration: The fixed work of `slimscan_bench.calibration`, right after.
        others: The same of each other way.
    """

    image: int
    round: int
    timings: Timings
    taken: Taken
    calibration: Taken
    others: Mapping[str, Taken] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Values of one quantity, with the round that each was taken in.

    Attributes:
        values: In the order they were taken; at least one.
        rounds: Round of each.
        processes: In how many processes the rounds were taken, as many in each, those of the first one first.
    """

    values: tuple[float, ...]
    rounds: tuple[int, ...]
    processes: int = 1

    def __post_init__(self) -> None:
        if not self.values or len(self.values) != len(self.rounds):
            raise InputError(f"got {len(self.values)} values and {len(self.rounds)} rounds, expected one each")

    @property
    def p50(self) -> float:
        """Median."""
        return float(np.median(self.values))

    @property
    def p90(self) -> float:
        """90th percentile, interpolated."""
        return float(np.quantile(self.values, 0.90))

    @property
    def p99(self) -> float | None:
        """99th percentile, interpolated; None below `MIN_VALUES_FOR_P99` values, which cannot show one."""
        return float(np.quantile(self.values, 0.99)) if len(self.values) >= MIN_VALUES_FOR_P99 else None

    @property
    def p50_interval(self) -> Interval | None:
        """95 % bootstrap interval of the median, processes and whole rounds drawn; None with one round.

        It covers what varies from process to process and from round to round on this machine with these images, and
        nothing more.
        """
        names, place = np.unique(self.rounds, return_inverse=True)
        if len(names) < 2:
            return None
        values = np.array(self.values)
        by_round = [values[place == k] for k in range(len(names))]
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        replicates = [
            np.median(np.concatenate([by_round[k] for k in draw_rounds(generator, len(names), self.processes)]))
            for _ in range(1000)
        ]
        return percentile_interval(np.array(replicates))


def rounds_of_answers(
    classifier: Classifier,
    images: Sequence[Path],
    *,
    warmup: int,
    repeats: int,
    ways: Mapping[str, Way] | None = None,
) -> Iterator[list[Sample]]:
    """Ask for every image, round after round, and keep what each stage took.

    Rounds go over all images in turn, so that a drift of the machine falls on all alike. Files are read anew
    each time; after the warm-up they come from the page cache. Other ways answer for the same image at once, in
    each of the possible orders in turn, so that what one finds in the caches the others find as often.

    Args:
        classifier: Ready to answer.
        images: Image files.
        warmup: Rounds before anything is kept.
        repeats: Rounds that are kept.
        ways: Other ways to be timed beside ours, by name.

    Yields:
        A sample of each image, round after round; nothing of a round of the warm-up.

    Raises:
        InputError: There is no image, no round to keep, or the bundle rejects an image.
        ImageError: An image is unreadable.
    """
    if not images or repeats < 1 or warmup < 0:
        raise InputError(
            f"got {len(images)} images, {repeats} repeats and {warmup} warm-up rounds, expected at least 1, 1 and 0"
        )
    everyone = {_OURS: classifier.predict, **(ways or {})}
    orders = tuple(permutations(everyone))
    for count in range(warmup + repeats):
        samples = []
        for index, path in enumerate(images):
            finding, taken = _take_turns(everyone, orders[(count + index) % len(orders)], path)
            _, calibration = _timed(spin)
            if finding.decision == "rejected":
                raise InputError(
                    f"{path} is rejected ({finding.reason}), so it takes no time; give images that are not"
                )
            samples.append(
                Sample(
                    image=index,
                    round=count - warmup,
                    timings=finding.timings,
                    taken=taken[_OURS],
                    calibration=calibration,
                    others={name: taken[name] for name in ways or {}},
                )
            )
        yield samples if count >= warmup else []


def _take_turns(
    ways: Mapping[str, Callable[[Path], Any]], order: Sequence[str], path: Path
) -> tuple[Finding, dict[str, Taken]]:
    """Our finding, and what each way took."""
    answers, taken = {}, {}
    for name in order:
        answers[name], taken[name] = _timed(partial(ways[name], path))
    finding: Finding = answers[_OURS]
    return finding, taken


def _timed(work: Callable[[], Any]) -> tuple[Any, Taken]:
    cpu, wall = process_time(), perf_counter()
    result = work()
    wall_ms, cpu_ms = (perf_counter() - wall) * 1e3, (process_time() - cpu) * 1e3
    return result, Taken(wall_ms=wall_ms, cpu_ms=cpu_ms)


def distribution(
    samples: Sequence[Sample], stage: str, *, image: int | None = None, processes: int = 1
) -> Distribution:
    """The values of one stage over all images, or over one.

    Args:
        samples: From `slimscan_bench.warm`.
        stage: One of `STAGES`.
        image: Which image; all when None.
        processes: In how many processes they were taken.
    """
    chosen = [sample for sample in samples if image is None or sample.image == image]
    return Distribution(
        values=tuple(getattr(sample.timings, f"{stage}_ms") for sample in chosen),
        rounds=tuple(sample.round for sample in chosen),
        processes=processes,
    )


def over_runs(values: Sequence[float]) -> Distribution:
    """Values of which each was taken in a run of its own."""
    return Distribution(values=tuple(values), rounds=tuple(range(len(values))))
