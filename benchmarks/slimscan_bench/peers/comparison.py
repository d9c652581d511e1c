"""The record of one run of all peers: every raw value, and what is computed from them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.benchmark import ImageFile
from slimscan_bench.bootstrap import Interval, draw_rounds, percentile_interval
from slimscan_bench.environment import Environment, concerns_between
from slimscan_bench.intervals import auroc, delong_interval
from slimscan_bench.latency import BOOTSTRAP_SEED
from slimscan_bench.peers.roster import OURS, PEERS
from slimscan_bench.reading import read_record
from slimscan_bench.scaling import ThreadRun
from slimscan_bench.side_by_side import RESAMPLES, Ratio, paired_ratio
from slimscan_bench.validity import reasons_invalid
from slimscan_edge.errors import InputError

SCHEMA_VERSION = 2
KIND = "slimscan peers"
QUANTILES = (0.5, 0.9, 0.99)
STAGES = ("decode", "prepare", "invoke", "rest")

Table = tuple[tuple[int, ...], ...]
"""Microseconds `[rounds][images]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshStart:
    """One fresh process of a peer.

    Attributes:
        ready_ms: From starting the process to a loaded model.
        first_answer_ms: From starting the process to its first answer.
        peak_memory_mib: Largest resident set by then; None where `/proc` does not tell.
    """

    ready_ms: float
    first_answer_ms: float
    peak_memory_mib: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRun:
    """What one peer did.

    Attributes:
        name: In the roster.
        title: For people.
        way: From file to answer, in words.
        model_size_bytes: Of the file that it loads.
        versions: Of its packages.
        probabilities: Of the positive label, by its operating point; one an image.
        decisions: At that operating point; one an image.
        wall_us: By the clock on the wall.
        cpu_us: Processors' time of all its threads; one row of medians over the rounds when thinned.
        stages_us: Decoding the file, preparing pixels and running the network, by the clock on the wall; what is not
            told apart is absent. One row of medians when thinned.
        starts: Fresh processes, on one image of median size.
        peak_memory_mib: Largest resident set of the process that answered for all images in all rounds.
    """

    name: str
    title: str
    way: str
    model_size_bytes: int
    versions: Mapping[str, str]
    probabilities: tuple[float, ...]
    decisions: tuple[str, ...]
    wall_us: Table
    cpu_us: Table
    stages_us: Mapping[str, Table]
    starts: tuple[FreshStart, ...]
    peak_memory_mib: float | None

    @property
    def wall_ms(self) -> NDArray[np.float64]:
        """Milliseconds `[rounds, images]`."""
        return np.array(self.wall_us, np.float64) / 1e3

    @property
    def p50_ms(self) -> float:
        """Median over all rounds and images."""
        return float(np.median(self.wall_ms))

    @property
    def stages_p50_ms(self) -> dict[str, float]:
        """Each of `STAGES`: median over the images of medians over the rounds; the rest is in no other stage."""
        found = {name: _medians_over_rounds(table) for name, table in self.stages_us.items()}
        whole = _medians_over_rounds(self.wall_us)
        found["rest"] = np.maximum(whole - sum(found.values(), np.zeros_like(whole)), 0.0)
        return {name: float(np.median(found[name])) / 1e3 for name in STAGES if name in found}

    @property
    def first_answers_ms(self) -> NDArray[np.float64]:
        """Of each fresh process, `[starts, 1]`."""
        return np.array([[start.first_answer_ms] for start in self.starts])

    @property
    def first_answer_p50_ms(self) -> float | None:
        """Median; None without fresh processes."""
        return float(np.median(self.first_answers_ms)) if self.starts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFailure:
    """A peer that has no figures, and why in one line."""

    name: str
    title: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerComparison:
    """All of a run.

    Attributes:
        command: The command line, defaults spelt out and folders left out.
        started: When, UTC, ISO 8601.
        slimscan: Our version.
        bundle_id: `NAME-VERSION`.
        bundle_sha256: Of the file, hexadecimal.
        macs: Multiply-accumulates of one image.
        threads: Threads of one inference, of every peer that can be told.
        processes: How many times all peers were started; the rounds are shared out among them, the first one's first.
        warmup: Rounds that were not kept.
        seed: Of the order in which peers took turns.
        labels: The negative and the positive label.
        calibration: What ONNX Runtime's quantiser was calibrated on; empty when it was not run.
        images: The images, in the order of all tables.
        truths: Of each image by its folder's name: positive or not; None where the folder does not tell.
        left_out: Names of images that the bundle rejects.
        runs: Ours, the floor and each peer that answered for every image.
        failures: The peers that did not.
        thread_runs: Ours with each number of threads; may be empty.
        environment: The machine before.
        environment_after: The machine afterwards.
        thinned_out: Some tables hold medians over the rounds alone.
    """

    command: str
    started: str
    slimscan: str
    bundle_id: str
    bundle_sha256: str
    macs: int
    threads: int
    processes: int
    warmup: int
    seed: int
    labels: tuple[str, str]
    calibration: str
    images: tuple[ImageFile, ...]
    truths: tuple[bool | None, ...]
    left_out: tuple[str, ...]
    runs: tuple[PeerRun, ...]
    failures: tuple[PeerFailure, ...]
    thread_runs: tuple[ThreadRun, ...]
    environment: Environment
    environment_after: Environment
    thinned_out: bool = False

    def __post_init__(self) -> None:
        if not any(run.name == OURS for run in self.runs):
            raise InputError("the run has no figures of ours, so that nothing can be compared with them")

    @property
    def ours(self) -> PeerRun:
        """Our own figures."""
        return self.run(OURS)

    @property
    def peers(self) -> tuple[PeerRun, ...]:
        """All but ours and the floor."""
        return tuple(run for run in self.runs if run.name in PEERS)

    def run(self, name: str) -> PeerRun:
        """The figures of one.

        Raises:
            InputError: It has none.
        """
        for run in self.runs:
            if run.name == name:
                return run
        raise InputError(f"there are no figures of {name}")

    def has(self, name: str) -> bool:
        """Whether one has figures."""
        return any(run.name == name for run in self.runs)

    def ratio(self, name: str) -> Ratio:
        """Our median over another's, on the same images in the same rounds."""
        return paired_ratio(self.ours.wall_ms, self.run(name).wall_ms, processes=self.processes)

    def start_ratio(self, name: str) -> Ratio:
        """Our median from process start to first answer over another's."""
        return paired_ratio(self.ours.first_answers_ms, self.run(name).first_answers_ms)

    def times_ours(self, name: str) -> NDArray[np.float64]:
        """How many times our time another took, by image: `[images]`, medians over the rounds."""
        return np.asarray(np.median(self.run(name).wall_ms, axis=0) / np.median(self.ours.wall_ms, axis=0))

    def same_decisions(self, name: str) -> int:
        """On how many images another decides as we do."""
        return sum(one == two for one, two in zip(self.ours.decisions, self.run(name).decisions, strict=True))

    def auroc(self, name: str) -> float | None:
        """Of the images whose truth is known; None where those are not of both classes."""
        known = np.array([truth is not None for truth in self.truths])
        positive = np.array([bool(truth) for truth in self.truths])[known]
        if not positive.any() or positive.all():
            return None
        return auroc(positive, np.array(self.run(name).probabilities)[known])

    def auroc_interval(self, name: str) -> Interval | None:
        """DeLong's 95 % interval of it, images taken as independent; None where there is none."""
        known = np.array([truth is not None for truth in self.truths])
        positive = np.array([bool(truth) for truth in self.truths])[known]
        try:
            return delong_interval(positive, np.array(self.run(name).probabilities)[known])
        except InputError:
            return None

    @property
    def concerns(self) -> tuple[str, ...]:
        """Reasons to doubt the figures."""
        return concerns_between(self.environment, self.environment_after)

    @property
    def invalid(self) -> tuple[str, ...]:
        """Reasons why the figures are worth nothing; none for a valid run."""
        rounds = [float(median) for median in np.median(self.ours.wall_ms, axis=1)]
        return reasons_invalid(self.environment, self.environment_after, rounds)

    def thinned(self) -> "PeerComparison":
        """The same in a fraction of the bytes, to be published.

        All whole times stay; of processors' time and of stages only the medians over the rounds do, and probabilities
        and the times of thread counts are rounded to what can matter.
        """
        runs = tuple(
            dataclasses.replace(
                run,
                probabilities=tuple(round(probability, 9) for probability in run.probabilities),
                cpu_us=_thin(run.cpu_us),
                stages_us={name: _thin(table) for name, table in run.stages_us.items()},
            )
            for run in self.runs
        )
        thread_runs = tuple(
            dataclasses.replace(
                run,
                total_ms=tuple(round(value, 3) for value in run.total_ms),
                invoke_ms=tuple(round(value, 3) for value in run.invoke_ms),
            )
            for run in self.thread_runs
        )
        return dataclasses.replace(self, thinned_out=True, runs=runs, thread_runs=thread_runs)

    def to_table(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"kind": KIND, "schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_table(cls, table: Mapping[str, Any], *, where: str) -> "PeerComparison":
        """What `to_table` gave, read back.

        Raises:
            InputError: It is another kind of table, or of another version.
        """
        if table.get("kind") != KIND or table.get("schema_version") != SCHEMA_VERSION:
            raise InputError(f"{where} is no record of peers of schema version {SCHEMA_VERSION}")
        fields = {key: value for key, value in table.items() if key not in ("kind", "schema_version")}
        return read_record(cls, fields, where=where)


def _medians_over_rounds(table: Table) -> NDArray[np.float64]:
    """`[images]`."""
    return np.asarray(np.median(np.array(table, np.float64), axis=0))


def _thin(table: Table) -> Table:
    return (tuple(round(value) for value in _medians_over_rounds(table)),)


def quantiles(wall_ms: NDArray[np.float64], *, processes: int) -> dict[float, tuple[float, Interval | None]]:
    """Each of `QUANTILES` with its 95 % bootstrap interval.

    Images and rounds are drawn, each with replacement and independently of the other (Owen 2007, The pigeonhole
    bootstrap), rounds from processes that are drawn too.

    Args:
        wall_ms: Milliseconds `[rounds, images]`.
        processes: In how many processes the rounds were taken.

    Returns:
        By quantile; no interval for a single value.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    rounds, images = wall_ms.shape
    found = np.quantile(wall_ms, QUANTILES)
    if wall_ms.size < 2:
        return {q: (float(value), None) for q, value in zip(QUANTILES, found, strict=True)}
    replicates = np.array(
        [
            np.quantile(
                wall_ms[np.ix_(draw_rounds(generator, rounds, processes), generator.integers(images, size=images))],
                QUANTILES,
            )
            for _ in range(RESAMPLES)
        ]
    )
    return {
        q: (float(value), percentile_interval(replicates[:, i]))
        for i, (q, value) in enumerate(zip(QUANTILES, found, strict=True))
    }
