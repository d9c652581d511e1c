"""One whole `slimscan bench`: what is measured, in which order. Base dependencies only: it runs on the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

from slimscan_bench.benchmark import Benchmark, describe_image
from slimscan_bench.cold_start import measure_cold_starts
from slimscan_bench.environment import read_environment
from slimscan_bench.instructions import count_instructions
from slimscan_bench.operators import profile_operators
from slimscan_bench.scaling import measure_scaling
from slimscan_bench.side_by_side import answer_each
from slimscan_bench.warm import measure_warm
from slimscan_bench.ways import WAYS
from slimscan_edge.bundle import ARENA_MEMORY
from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import InputError

Progress: TypeAlias = Callable[[str, int], Callable[[int], None]]
"""From what is counted and how many there will be, to what is called with the number done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        command: The command line that asks for it, for the record.
        bundle_path: The bundle's file, for fresh processes to read.
        synthetic: The images were drawn for the measurement.
        processes: How many processes are measured warm, one after the other.
        warmup: Rounds in each that are not kept.
        repeats: Rounds in each that are kept.
        against: Names of other ways to measure beside ours.
        scaling: Whether to measure each number of threads.
        operators: Whether to tell the network's operators apart, in as many rounds as are kept of answers.
        instructions: Whether to count instructions.
        cold_starts: Pairs of fresh processes; 0 for none.
    """

    command: str
    bundle_path: Path
    synthetic: bool
    processes: int
    warmup: int
    repeats: int
    against: tuple[str, ...]
    scaling: bool
    operators: bool
    instructions: bool
    cold_starts: int


def measure(
    classifier: Classifier, images: Sequence[Path], plan: Plan, *, progress: Progress, root: Path = Path("/")
) -> Benchmark:
    """Measure what a plan asks for; images that the bundle rejects are left out.

    Args:
        classifier: Ready to answer.
        images: Readable image files.
        plan: What to measure.
        progress: Told what is counted and how far it is.
        root: Where `/proc` and `/sys` are.

    Raises:
        InputError: The bundle rejects all images.
        ImageError: An image is unreadable.
        InterpreterError: A fresh process ended without an answer.
        MachineError: Instructions cannot be counted here, or operators not be told apart.
    """
    bundle, interpreter = classifier.bundle, classifier.interpreter
    started = datetime.now(UTC).isoformat(timespec="seconds")
    delegate = "XNNPACK" if interpreter.runs_xnnpack else "none: TFLite's own kernels"
    state = partial(read_environment, interpreter=interpreter.backend, delegate=delegate, root=root)
    before = state()
    ways = {name: WAYS[name](classifier) for name in plan.against}
    answered = list(zip(images, answer_each(classifier, ways, images), strict=True))
    paths = [path for path, answer in answered if answer.decision != "rejected"]
    if not paths:
        raise InputError(f"{bundle.manifest.bundle_id} rejects all {len(images)} images; give X-rays")
    described = tuple(describe_image(path) for path in paths)
    by_size = sorted(range(len(paths)), key=lambda i: described[i].width * described[i].height)
    typical, largest = paths[by_size[len(paths) // 2]], paths[by_size[-1]]
    counts = {"warmup": plan.warmup, "repeats": plan.repeats}
    rounds, start = plan.warmup + plan.repeats, partial(measure_cold_starts, bundle, bundle_path=plan.bundle_path)
    instructions = (
        count_instructions(
            plan.bundle_path,
            typical,
            plan.against,
            progress=progress("ways under valgrind", 1 + len(plan.against)),
        )
        if plan.instructions
        else ()
    )
    return Benchmark(
        command=plan.command,
        started=started,
        bundle_id=bundle.manifest.bundle_id,
        bundle_sha256=bundle.sha256,
        bundle_size_bytes=plan.bundle_path.stat().st_size,
        model_size_bytes=len(bundle.model),
        arena=next((gate.measured for gate in bundle.manifest.gates if gate.name == ARENA_MEMORY), ""),
        threads=interpreter.threads,
        processes=plan.processes,
        warmup=plan.warmup,
        synthetic=plan.synthetic,
        images=described,
        left_out=tuple(path.name for path, answer in answered if answer.decision == "rejected"),
        answers=tuple(answer for _, answer in answered if answer.decision != "rejected"),
        samples=measure_warm(
            plan.bundle_path,
            paths,
            **counts,
            threads=interpreter.threads,
            processes=plan.processes,
            ways=plan.against,
            progress=progress(f"rounds over {len(paths)} images", plan.processes * rounds),
        ),
        thread_runs=measure_scaling(
            bundle, paths, **counts, progress=progress(f"rounds over {len(paths)} images by threads", rounds)
        )
        if plan.scaling
        else (),
        operators=profile_operators(
            bundle.model,
            threads=interpreter.threads,
            rounds=plan.processes * plan.repeats,
            progress=progress("rounds of the network by operators", plan.processes * plan.repeats),
        )
        if plan.operators
        else None,
        cold_starts=start(
            typical,
            threads=interpreter.threads,
            runs=plan.cold_starts,
            progress=progress("pairs of fresh processes", plan.cold_starts + 1),
        ),
        instructions=instructions,
        largest_starts=start(largest, threads=interpreter.threads, runs=min(1, plan.cold_starts)),
        environment=before,
        environment_after=state(),
    )
