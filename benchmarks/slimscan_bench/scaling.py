"""One image at a time and a batch of files, with one thread for an inference, two, and so on up to all cores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from slimscan_edge.bundle import Bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.cores import usable_cores
from slimscan_edge.stream import predict_each


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadRun:
    """One round over all images with some number of threads.

    Attributes:
        threads: Threads of one inference.
        round: Which of the rounds, from 0.
        total_ms: File to finding of each image, one after the other.
        invoke_ms: The network's part of each.
        batch_seconds: All images as `slimscan predict` answers for a folder, reading ahead.
    """

    threads: int
    round: int
    total_ms: tuple[float, ...]
    invoke_ms: tuple[float, ...]
    batch_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadFigures:
    """What some number of threads makes of it: medians over all rounds.

    Attributes:
        threads: Threads of one inference.
        total_p50_ms: File to finding.
        invoke_p50_ms: The network's part.
        one_by_one_per_second: Images a second, each answered before the next is read.
        images_per_second: As `slimscan predict` answers for a folder, reading ahead.
    """

    threads: int
    total_p50_ms: float
    invoke_p50_ms: float
    one_by_one_per_second: float
    images_per_second: float


def measure_scaling(
    bundle: Bundle,
    images: Sequence[Path],
    *,
    warmup: int,
    repeats: int,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[ThreadRun, ...]:
    """Go over all images with each number of threads in turn, round after round.

    Args:
        bundle: Verified.
        images: Readable image files, at least one.
        warmup: Rounds before anything is kept.
        repeats: Rounds that are kept.
        progress: Called with the number of rounds done, warm-up included.
    """
    classifiers = [Classifier(bundle, threads=threads) for threads in range(1, usable_cores() + 1)]
    runs = []
    for count in range(warmup + repeats):
        for classifier in classifiers if count % 2 else reversed(classifiers):
            run = _run(classifier, images, count - warmup)
            if count >= warmup:
                runs.append(run)
        progress(count + 1)
    return tuple(runs)


def thread_figures(runs: Sequence[ThreadRun]) -> tuple[ThreadFigures, ...]:
    """The medians for each number of threads, fewest first."""
    figures = []
    for threads in sorted({run.threads for run in runs}):
        chosen = [run for run in runs if run.threads == threads]
        figures.append(
            ThreadFigures(
                threads=threads,
                total_p50_ms=float(np.median([run.total_ms for run in chosen])),
                invoke_p50_ms=float(np.median([run.invoke_ms for run in chosen])),
                one_by_one_per_second=float(np.median([1e3 / np.mean(run.total_ms) for run in chosen])),
                images_per_second=float(np.median([len(run.total_ms) / run.batch_seconds for run in chosen])),
            )
        )
    return tuple(figures)


def _run(classifier: Classifier, images: Sequence[Path], number: int) -> ThreadRun:
    timings = [classifier.predict(path).timings for path in images]
    start = perf_counter()
    answered = sum(1 for _ in predict_each(classifier, images))
    batch_seconds = perf_counter() - start
    assert answered == len(images)
    return ThreadRun(
        threads=classifier.interpreter.threads,
        round=number,
        total_ms=tuple(timing.total_ms for timing in timings),
        invoke_ms=tuple(timing.invoke_ms for timing in timings),
        batch_seconds=batch_seconds,
    )
