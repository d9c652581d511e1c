"""The record of one `slimscan bench`: every raw value, and the table for people that is computed from them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from slimscan_bench.bootstrap import Interval
from slimscan_bench.cold_start import ColdStart
from slimscan_bench.environment import Environment, concerns_between
from slimscan_bench.latency import BOOTSTRAP_SEED, STAGES, Distribution, Sample, distribution
from slimscan_edge.errors import ImageError

SCHEMA_VERSION = 1
MOST_LISTED = 5
"""Images named in the report for people."""


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
        threads: Threads of one inference.
        warmup: Rounds that were not kept.
        synthetic: The images were drawn for the measurement.
        images: The images, in the order that samples count them.
        samples: Every answer, warm.
        cold_starts: Every pair of fresh processes; may be empty.
        environment: The machine before.
        environment_after: The machine afterwards, when it is warm and throttling shows.
    """

    command: str
    started: str
    bundle_id: str
    bundle_sha256: str
    bundle_size_bytes: int
    model_size_bytes: int
    threads: int
    warmup: int
    synthetic: bool
    images: tuple[ImageFile, ...]
    samples: tuple[Sample, ...]
    cold_starts: tuple[ColdStart, ...]
    environment: Environment
    environment_after: Environment

    def stage(self, name: str, *, image: int | None = None) -> Distribution:
        """Milliseconds of one of `STAGES`, over all images or one."""
        return distribution(self.samples, name, image=image)

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
        return max((p.slimscan.peak_memory_mib for p in self.cold_starts if p.slimscan.peak_memory_mib), default=None)

    @property
    def floor_peak_memory_mib(self) -> float | None:
        """The same of the bare script."""
        return max((p.floor.peak_memory_mib for p in self.cold_starts if p.floor.peak_memory_mib), default=None)

    @property
    def concerns(self) -> tuple[str, ...]:
        """Reasons to doubt the figures."""
        return concerns_between(self.environment, self.environment_after)

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
            "",
            *self._slowest_image_lines(),
            *self._cold_start_lines(),
            *(f"caution: {concern}" for concern in self.concerns),
        ]

    def _headings(self) -> list[str]:
        where = self.environment
        return [
            f"bundle   {self.bundle_id}, {self.bundle_size_bytes / 1024:,.1f} KiB "
            f"(model {self.model_size_bytes / 1024:,.1f} KiB), sha256 {self.bundle_sha256[:12]}",
            f"machine  {machine_text(where)}",
            f"software {where.interpreter} with {self.threads} threads, Python {where.python}, NumPy {where.numpy}, "
            f"Pillow {where.pillow}, libjpeg-turbo {where.libjpeg_turbo or 'absent'}",
            f"images   {len(self.images)}, "
            + ("drawn for this measurement: no X-ray was read" if self.synthetic else "as given"),
        ]

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

    def _cold_start_lines(self) -> list[str]:
        if not self.cold_starts:
            return []
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
            "concerns": self.concerns,
            "stages_ms": {name: _figures(self.stage(name)) for name in STAGES},
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
    try:
        with Image.open(path) as image:
            width, height = image.size
            return ImageFile(
                name=path.name, width=width, height=height, mode=image.mode, size_bytes=path.stat().st_size
            )
    except (OSError, ValueError, SyntaxError) as exc:
        raise ImageError(f"{path} is not a readable image ({exc}); give image files") from exc


def over_runs(values: Sequence[float]) -> Distribution:
    """Values of which each was taken in a run of its own."""
    return Distribution(values=tuple(values), rounds=tuple(range(len(values))))


def machine_text(where: Environment) -> str:
    """Board or processor, cores and kernel."""
    name = where.board or where.cpu_model or where.architecture
    return f"{name}, {where.usable_cores or where.cores} cores, {where.kernel}"


def interval_text(interval: Interval | None, digits: int) -> str:
    """The two ends; a dash for none."""
    return "-" if interval is None else f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def memory_text(value: float | None) -> str:
    """MiB, or that they are unknown."""
    return "unknown" if value is None else f"{value:,.1f} MiB"


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
