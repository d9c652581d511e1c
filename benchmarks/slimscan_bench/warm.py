"""Answers of processes that are warm: each is started, warmed up, measured for some rounds and ended.

Processes of one build differ by a percent or two for as long as they live, by where their memory lies, so that one
alone would give a figure that no other process has.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slimscan_bench.child import ANSWER_SECONDS, Child, ChildError
from slimscan_bench.latency import Sample
from slimscan_bench.reading import read_record
from slimscan_edge.errors import InterpreterError

_PROGRAM = Path(__file__).parent / "programs" / "warm_rounds.py"


def measure_warm(
    bundle_path: Path,
    images: Sequence[Path],
    *,
    threads: int,
    processes: int,
    warmup: int,
    repeats: int,
    ways: Sequence[str] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Sample, ...]:
    """Let one process after the other answer for all images, as `slimscan_bench.latency.rounds_of_answers` does.

    Args:
        bundle_path: The bundle's file.
        images: Readable images that the bundle does not reject.
        threads: Threads of one inference.
        processes: How many processes, at least one.
        warmup: Rounds in each process before anything is kept.
        repeats: Rounds in each process that are kept.
        ways: Names of other ways to be timed beside ours, on the same loaded network.
        progress: Called with the number of rounds done, of all processes and warm-ups.

    Returns:
        `processes * repeats * len(images)` samples in the order they were taken; rounds are counted through.

    Raises:
        InterpreterError: A process ended before its last round.
    """
    seconds = ANSWER_SECONDS * len(images)  # a line is a round over all of them
    words = (str(bundle_path), str(threads), str(warmup), str(repeats), *ways)
    samples: list[Sample] = []
    done = 0
    for process in range(processes):
        # -P: the script's own folder is not searched for modules.
        with Child((sys.executable, "-P", str(_PROGRAM), *words), seconds=seconds) as child:
            child.tell([str(path.absolute()) for path in images])
            for _ in range(warmup + repeats):
                samples += [_counted_through(table, process * repeats) for table in _hear(child)]
                done += 1
                progress(done)
    return tuple(samples)


def _counted_through(table: dict[str, Any], rounds_before: int) -> Sample:
    sample = read_record(Sample, table, where=_PROGRAM.name)
    return dataclasses.replace(sample, round=rounds_before + sample.round)


def _hear(child: Child) -> Any:
    try:
        return child.hear()
    except ChildError as exc:
        raise InterpreterError(f"a process that was measured stopped: {exc}; run: slimscan doctor") from exc
