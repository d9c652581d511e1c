"""The record of one `slimscan bench`: every raw value, and the table for people that is computed from them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slimscan_bench.bootstrap import interval_text
from slimscan_bench.bounds import COLD_START, OTHER_DECISIONS, OVER_FLOOR, OVER_PLAIN, PEAK_MEMORY, Bound, Held, exact
from slimscan_bench.cold_start import ColdStart
from slimscan_bench.environment import Environment, concerns_between
from slimscan_bench.instructions import Instructions
from slimscan_bench.latency import BOOTSTRAP_SEED, STAGES, Distribution, Sample, distribution, over_runs
from slimscan_bench.operators import NetworkProfile
from slimscan_bench.scaling import ThreadFigures, ThreadRun, thread_figures
from slimscan_bench.side_by_side import Answer, Clock, Ratio, p50_ratio, share_decided_otherwise
from slimscan_bench.validity import MIN_ROUNDS_FOR_SPREAD, reasons_invalid, round_medians
from slimscan_edge.preprocess import read_header

SCHEMA_VERSION = 4
MOST_LISTED = 5
"""Images named in the report for people."""
LARGE_FROM_PIXELS = 1_000_000
"""Where small images end: about where a JPEG of our reference data begins to be decoded reduced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """What an image that was measured on is like."""

    name: str
    width: int
    height: int
    mode: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What was measured, on what, where and how.

    Attributes:
        command: The command line, defaults spelt out.
        started: When, UTC, ISO 8601.
        bundle_id: `NAME-VERSION`.
        bundle_sha256: Of the file, hexadecimal.
        bundle_size_bytes: Of the file.
        model_size_bytes: Of the `.tflite` inside.
        arena: Memory that the model takes in TFLite Micro, in words, as its gates measured it; empty if they did not.
        threads: Threads of one inference.
        processes: Processes that answered warm, one after the other; the first one's rounds come first.
        warmup: Rounds in each that were not kept.
        synthetic: The images were drawn for the measurement.
        images: The images, in the order that samples count them.
        left_out: Names of images that the bundle rejects, which were not measured.
        answers: What every way says of each image.
        samples: Every answer, warm.
        thread_runs: Rounds with each number of threads; may be empty.
        operators: What each operator of the network takes; None when that was not measured.
        cold_starts: Every pair of fresh processes on an image of median size; may be empty.
        largest_starts: The same on the largest image, for its memory.
        instructions: Of every way on an image of median size; may be empty.
        environment: The machine before.
        environment_after: The machine afterwards, when it is warm and throttling shows.
    """

    command: str
    started: str
    bundle_id: str
    bundle_sha256: str
    bundle_size_bytes: int
    model_size_bytes: int
    arena: str
    threads: int
    processes: int
    warmup: int
    synthetic: bool
    images: tuple[ImageFile, ...]
    left_out: tuple[str, ...]
    answers: tuple[Answer, ...]
    samples: tuple[Sample, ...]
    thread_runs: tuple[ThreadRun, ...]
    operators: NetworkProfile | None
    cold_starts: tuple[ColdStart, ...]
    largest_starts: tuple[ColdStart, ...]
    instructions: tuple[Instructions, ...]
    environment: Environment
    environment_after: Environment

    def stage(self, name: str, *, image: int | None = None) -> Distribution:
        """Milliseconds of one of `STAGES`, over all images or one."""
        return distribution(self.samples, name, image=image, processes=self.processes)

    @property
    def process_medians_ms(self) -> tuple[float, ...]:
        """Median of the whole answer in each process."""
        rounds = 1 + max(sample.round for sample in self.samples)
        walls: list[list[float]] = [[] for _ in range(self.processes)]
        for sample in self.samples:
            walls[sample.round * self.processes // rounds].append(sample.timings.total_ms)
        return tuple(float(np.median(values)) for values in walls)

    @property
    def first_answer(self) -> Distribution:
        """Milliseconds from process start to first answer, ours; `InputError` without cold starts."""
        return over_runs([pair.slimscan.first_answer_ms for pair in self.cold_starts])

    @property
    def floor(self) -> Distribution:
        """The same of the bare script."""
        return over_runs([pair.floor.first_answer_ms for pair in self.cold_starts])

    @property
    def floor_ratio(self) -> Distribution:
        """Ours over the floor's, pair by pair."""
        return over_runs([pair.ratio for pair in self.cold_starts])

    @property
    def peak_memory_mib(self) -> float | None:
        """Largest resident set of a fresh process of ours, over all cold starts."""
        starts = (pair.slimscan for pair in (*self.cold_starts, *self.largest_starts))
        return max((start.peak_memory_mib for start in starts if start.peak_memory_mib), default=None)

    @property
    def floor_peak_memory_mib(self) -> float | None:
        """The same of the bare script."""
        starts = (pair.floor for pair in (*self.cold_starts, *self.largest_starts))
        return max((start.peak_memory_mib for start in starts if start.peak_memory_mib), default=None)

    @property
    def ways(self) -> tuple[str, ...]:
        """Names of the other ways that were measured beside ours."""
        return tuple(self.samples[0].others)

    @property
    def image_classes(self) -> Mapping[str, tuple[int, ...]]:
        """Which images are of each class that ratios are given for; classes without an image are left out."""
        large = tuple(i for i, file in enumerate(self.images) if file.width * file.height >= LARGE_FROM_PIXELS)
        small = tuple(i for i in range(len(self.images)) if i not in set(large))
        classes = {"all": tuple(range(len(self.images))), "large": large, "small": small}
        return {name: images for name, images in classes.items() if images}

    def ratio(self, way: str, *, image_class: str = "all", clock: Clock = "wall") -> Ratio:
        """Our median over another way's."""
        images = self.image_classes[image_class]
        return p50_ratio(self.samples, way, images=images, clock=clock, processes=self.processes)

    @property
    def scaling(self) -> tuple[ThreadFigures, ...]:
        """What each number of threads makes of it; empty when only one was measured."""
        return thread_figures(self.thread_runs)

    @property
    def bounds(self) -> tuple[Held, ...]:
        """Every bound of `slimscan_bench.bounds` beside what was measured, if it was."""
        otherwise = share_decided_otherwise(self.answers, "plain") if "plain" in self.ways else None
        return (
            self._over(OVER_PLAIN, "plain"),
            self._over(OVER_FLOOR, "floor"),
            exact(OTHER_DECISIONS, otherwise),
            Held(
                bound=COLD_START,
                value=self.floor_ratio.p50 if self.cold_starts else None,
                interval=self.floor_ratio.p50_interval if self.cold_starts else None,
            ),
            exact(PEAK_MEMORY, self.peak_memory_mib),
        )

    def _over(self, bound: Bound, way: str) -> Held:
        if way not in self.ways:
            return Held(bound=bound, value=None, interval=None)
        ratio = self.ratio(way)
        return Held(bound=bound, value=ratio.value, interval=ratio.interval)

    @property
    def concerns(self) -> tuple[str, ...]:
        """Reasons to doubt the figures."""
        rounds = len({sample.round for sample in self.samples})
        few = (f"{rounds} rounds do not tell how far times spread; measure {MIN_ROUNDS_FOR_SPREAD} or more",)
        found = concerns_between(self.environment, self.environment_after)
        return (*found, *(few if rounds < MIN_ROUNDS_FOR_SPREAD else ()))

    @property
    def invalid(self) -> tuple[str, ...]:
        """Reasons why the figures are worth nothing; none for a valid run."""
        return reasons_invalid(self.environment, self.environment_after, round_medians(self.samples))

    def to_table(self) -> dict[str, Any]:
        """Plain values for JSON: `schema_version`, every field, and under `summary` what is computed from them."""
        return {"schema_version": SCHEMA_VERSION, "summary": self._summary(), **dataclasses.asdict(self)}

    def to_lines(self) -> list[str]:
        """The report for people, line by line."""
        return [
            *self._headings(),
            "",
            f"{'ms':8}{'p50':>9}  {'95 % interval':^19}{'p90':>9}{'p99':>9}   ({len(self.samples)} answers, warm)",
            *(_stage_line(name, self.stage(name)) for name in STAGES),
            *self._process_lines(),
            "",
            *self._slowest_image_lines(),
            *self._ratio_lines(),
            *self._scaling_lines(),
            *self._operator_lines(),
            *self._instruction_lines(),
            *self._cold_start_lines(),
            *self._bound_lines(),
            *(f"caution: {concern}" for concern in self.concerns),
            *(f"INVALID: {reason}" for reason in self.invalid),
        ]

    def _headings(self) -> list[str]:
        where = self.environment
        return [
            f"bundle   {self.bundle_id}, {self.bundle_size_bytes / 1024:,.1f} KiB "
            f"(model {self.model_size_bytes / 1024:,.1f} KiB), sha256 {self.bundle_sha256[:12]}"
            + (f", arena in TFLite Micro {self.arena}" if self.arena else ""),
            f"machine  {machine_text(where)}",
            f"software {where.interpreter} with {self.threads} threads, Python {where.python}, NumPy {where.numpy}, "
            f"Pillow {where.pillow}, libjpeg-turbo {where.libjpeg_turbo or 'absent'}",
            f"images   {len(self.images)}, "
            + ("drawn for this measurement: no X-ray was read" if self.synthetic else "as given")
            + (f"; {len(self.left_out)} rejected and left out" if self.left_out else ""),
        ]

    def _process_lines(self) -> list[str]:
        if self.processes < 2:
            return []
        medians = self.process_medians_ms
        return [f"  medians of the {self.processes} processes from {min(medians):.2f} to {max(medians):.2f} ms"]

    def _slowest_image_lines(self) -> list[str]:
        """The images that take longest, slowest first; the record holds them all."""
        medians = {i: self.stage("total", image=i).p50 for i in range(len(self.images))}
        listed = sorted(medians, key=lambda i: -medians[i])[:MOST_LISTED]
        lines = []
        for i in listed:
            file = self.images[i]
            described = f"{file.width}x{file.height} {file.mode}, {file.size_bytes / 1024:,.0f} KiB"
            lines.append(f"  total p50 {medians[i]:8.2f} ms   {file.name}, {described}")
        if len(listed) < len(medians):
            lines.append(f"  and {len(medians) - len(listed)} images that take less")
        return lines

    def _ratio_lines(self) -> list[str]:
        lines = []
        for way in self.ways:
            lines += ["", f"{f'against {way}':24}{'ours, ms':>9}{f'{way}, ms':>11}{'ratio':>8}   95 % interval"]
            lines += [
                _ratio_line(f"{name} ({len(images)} images)", self.ratio(way, image_class=name))
                for name, images in self.image_classes.items()
            ]
            lines.append(_ratio_line("all, processors' time", self.ratio(way, clock="cpu")))
            otherwise = round(share_decided_otherwise(self.answers, way) * len(self.answers))
            lines.append(f"  the same decision on {len(self.answers) - otherwise} of {len(self.answers)} images")
        return lines

    def _scaling_lines(self) -> list[str]:
        if not self.thread_runs:
            return []
        return [
            "",
            "threads   total p50   invoke p50   files a second   read ahead",
            *(
                f"{row.threads:7}{row.total_p50_ms:9.2f} ms{row.invoke_p50_ms:10.2f} ms"
                f"{row.one_by_one_per_second:17.0f}{row.images_per_second:13.0f}"
                for row in self.scaling
            ),
        ]

    def _operator_lines(self) -> list[str]:
        return ["", *self.operators.to_lines()] if self.operators else []

    def _instruction_lines(self) -> list[str]:
        if not self.instructions:
            return []
        return [
            "",
            f"instructions{'an answer':>16}{'first answer':>16}   (valgrind, one thread, {self.instructions[0].image})",
            *(f"  {row.way:10}{row.per_answer / 1e6:14.1f} M{row.first / 1e6:14.1f} M" for row in self.instructions),
        ]

    def _bound_lines(self) -> list[str]:
        measured = [held for held in self.bounds if held.value is not None]
        if not self.ways or not measured:
            return []
        return [
            f"{'bound':48}{'measured':>9}{'allowed':>9}",
            *(f"  {h.bound.name:46}{h.value:9.3g}{h.bound.at_most:9g}   {h.verdict}" for h in measured),
            "",
        ]

    def _cold_start_lines(self) -> list[str]:
        if not self.cold_starts:
            return [""] if self.ways or self.thread_runs or self.operators or self.instructions else []
        ratio = self.floor_ratio
        return [
            "",
            f"process start to first answer ({len(self.cold_starts)} starts in turn with a bare script)",
            f"  slimscan {self.first_answer.p50:8.1f} ms  {interval_text(self.first_answer.p50_interval, 1)}"
            f"   peak memory {memory_text(self.peak_memory_mib)}",
            f"  floor    {self.floor.p50:8.1f} ms  {interval_text(self.floor.p50_interval, 1)}"
            f"   peak memory {memory_text(self.floor_peak_memory_mib)}",
            f"  ratio    {ratio.p50:8.3f}     {interval_text(ratio.p50_interval, 3)}",
            "",
        ]

    def _summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "bootstrap_seed": BOOTSTRAP_SEED,
            "valid": not self.invalid,
            "invalid": self.invalid,
            "concerns": self.concerns,
            "process_medians_ms": self.process_medians_ms,
            "stages_ms": {name: _figures(self.stage(name)) for name in STAGES},
            "ratios": {
                way: {name: _ratio(self.ratio(way, image_class=name)) for name in self.image_classes}
                for way in self.ways
            },
            "cpu_ratios": {way: _ratio(self.ratio(way, clock="cpu")) for way in self.ways},
            "decided_otherwise": {way: share_decided_otherwise(self.answers, way) for way in self.ways},
            "scaling": [dataclasses.asdict(row) for row in self.scaling],
            "instructions_per_answer": {row.way: row.per_answer for row in self.instructions},
            "bounds": [
                {**dataclasses.asdict(h.bound), "value": h.value, "interval_95": h.interval, "verdict": h.verdict}
                for h in self.bounds
            ],
        }
        if self.cold_starts:
            summary["first_answer_ms"] = _figures(self.first_answer)
            summary["floor_ms"] = _figures(self.floor)
            summary["floor_ratio"] = _figures(self.floor_ratio)
            summary["peak_memory_mib"] = self.peak_memory_mib
            summary["floor_peak_memory_mib"] = self.floor_peak_memory_mib
        return summary


def describe_image(path: Path) -> ImageFile:
    """Size, mode and bytes of an image file.

    Raises:
        ImageError: It is unreadable.
    """
    header = read_header(path)
    return ImageFile(
        name=path.name, width=header.width, height=header.height, mode=header.mode, size_bytes=path.stat().st_size
    )


def machine_text(where: Environment) -> str:
    """Board or processor, cores and kernel."""
    name = where.board or where.cpu_model or where.architecture
    return f"{name}, {where.usable_cores or where.cores} cores, {where.kernel}"


def memory_text(value: float | None) -> str:
    """MiB, or that they are unknown."""
    return "unknown" if value is None else f"{value:,.1f} MiB"


def _ratio_line(what: str, ratio: Ratio) -> str:
    return (
        f"  {what:22}{ratio.ours_p50_ms:9.2f}{ratio.other_p50_ms:11.2f}{ratio.value:8.3f}   "
        f"{interval_text(ratio.interval, 3)}"
    )


def _ratio(ratio: Ratio) -> dict[str, Any]:
    return {**dataclasses.asdict(ratio), "ratio": ratio.value}


def _figures(values: Distribution) -> dict[str, Any]:
    return {
        "p50": values.p50,
        "p50_interval_95": values.p50_interval,
        "p90": values.p90,
        "p99": values.p99,
        "count": len(values.values),
    }


def _stage_line(name: str, values: Distribution) -> str:
    p99 = "-" if values.p99 is None else f"{values.p99:.2f}"
    return f"{name:8}{values.p50:9.2f}  {interval_text(values.p50_interval, 2):^19}{values.p90:9.2f}{p99:>9}"
