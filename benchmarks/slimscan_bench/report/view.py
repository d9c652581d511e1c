"""What the report shows, from either kind of record: a run of peers, or a benchmark that a device wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.benchmark import Benchmark, ImageFile, machine_text
from slimscan_bench.bootstrap import Interval
from slimscan_bench.bounds import OTHER_DECISIONS, Held
from slimscan_bench.environment import Environment
from slimscan_bench.operators import NetworkProfile
from slimscan_bench.peers.comparison import PeerComparison, PeerFailure, PeerRun, quantiles
from slimscan_bench.peers.roster import FLOOR, OURS
from slimscan_bench.peers.targets import decides_alike, targets, why_missed
from slimscan_bench.scaling import ThreadFigures, thread_figures
from slimscan_bench.side_by_side import Ratio, paired_ratio, share_decided_otherwise, times_ms

_WAY_TITLES = {"plain": "plain", FLOOR: "floor"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Way:
    """One way from file to answer, as a report shows it.

    Attributes:
        name: Its key.
        title: For people.
        words: How it goes from file to answer.
        versions: Of its packages.
        wall_ms: Milliseconds `[rounds, images]`.
        processes: In how many processes the rounds were taken.
        stages_ms: Median of each stage; empty when none is told apart.
        ratio: Our median over its; None for ours.
        times_ours: How many times our time it takes, by image `[images]`.
        same_decisions: On how many images it decides as we do.
        right: Whether that is often enough to be compared with.
        auroc: Where the truth is known.
        auroc_interval: 95 %, of it.
        model_size_bytes: Of the file that it loads; None where the record does not tell.
        first_answers_ms: Of fresh processes; may be empty.
        peak_memory_mib: None where it was not measured.
    """

    name: str
    title: str
    words: str
    versions: Mapping[str, str]
    wall_ms: NDArray[np.float64]
    processes: int
    stages_ms: Mapping[str, float]
    ratio: Ratio | None
    times_ours: NDArray[np.float64]
    same_decisions: int
    right: bool
    auroc: float | None
    auroc_interval: Interval | None
    model_size_bytes: int | None
    first_answers_ms: tuple[float, ...]
    peak_memory_mib: float | None

    @property
    def p50_ms(self) -> float:
        """Median over all rounds and images."""
        return float(np.median(self.wall_ms))

    @property
    def median_times_ours(self) -> float:
        """How many times our time it takes: median over the images."""
        return float(np.median(self.times_ours))

    @property
    def quantiles(self) -> dict[float, tuple[float, Interval | None]]:
        """Median, 90th and 99th percentile with intervals."""
        return quantiles(self.wall_ms, processes=self.processes)

    @property
    def first_answer_ms(self) -> float | None:
        """Median; None without fresh processes."""
        return float(np.median(self.first_answers_ms)) if self.first_answers_ms else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """An aim beside what was measured; `against` is the title of the way that counts, `why` where the time goes."""

    held: Held
    against: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that a page shows.

    Attributes:
        title: Of the page.
        of_peers: Whether each way ran in a process of its own, as peers do; else all ran in one.
        command: That measured.
        started: When.
        bundle: Name and version.
        bundle_sha256: Of its file.
        threads: Of one inference.
        images: That were measured on.
        left_out: Rejected images.
        synthetic: The images were drawn for the measurement.
        ways: Ours first.
        aims: In the order of the page.
        failures: Peers without figures.
        scaling: By number of threads; may be empty.
        macs: Multiply-accumulates of one image; None where the record does not tell.
        operators: What each operator of the network takes; None where the record does not tell.
        machine: In words.
        environment: The machine before.
        concerns: Reasons to doubt the figures.
        invalid: Reasons why they are worth nothing.
        notes: What else is to be known.
    """

    title: str
    of_peers: bool
    command: str
    started: str
    bundle: str
    bundle_sha256: str
    threads: int
    images: tuple[ImageFile, ...]
    left_out: tuple[str, ...]
    synthetic: bool
    ways: tuple[Way, ...]
    aims: tuple[Aim, ...]
    failures: tuple[PeerFailure, ...]
    scaling: tuple[ThreadFigures, ...]
    macs: int | None
    operators: NetworkProfile | None
    machine: str
    environment: Environment
    concerns: tuple[str, ...]
    invalid: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ours(self) -> Way:
        """Our own way."""
        return self.ways[0]

    @property
    def fastest_other(self) -> Way | None:
        """The fastest of those that answer as we do, the floor apart."""
        others = [way for way in self.ways[1:] if way.name != FLOOR and way.right]
        return min(others, key=lambda way: way.p50_ms, default=None)

    @property
    def has_auroc(self) -> bool:
        """Whether the truth of images of both classes is known."""
        return any(way.auroc is not None for way in self.ways)


def view_of_peers(record: PeerComparison) -> View:
    """The page of a run of peers."""
    ordered = sorted(record.runs, key=lambda run: (run.name != OURS, run.name != FLOOR, run.p50_ms))
    notes = [f"ONNX Runtime's own quantiser was calibrated on {record.calibration}."] if record.calibration else []
    if record.thinned_out:
        notes.append("Of stages and processors' time this record keeps the medians over the rounds alone.")
    return View(
        title=f"{record.bundle_id} beside its peers",
        of_peers=True,
        command=record.command,
        started=record.started,
        bundle=record.bundle_id,
        bundle_sha256=record.bundle_sha256,
        threads=record.threads,
        images=record.images,
        left_out=record.left_out,
        synthetic=False,
        ways=tuple(_way_of_peer(record, run) for run in ordered),
        aims=tuple(
            Aim(
                held=held,
                against=record.run(against).title if against else "",
                why=why_missed(record, held, against),
            )
            for held, against in targets(record)
        ),
        failures=record.failures,
        scaling=thread_figures(record.thread_runs),
        macs=record.macs,
        operators=None,
        machine=machine_text(record.environment),
        environment=record.environment,
        concerns=record.concerns,
        invalid=record.invalid,
        notes=tuple(notes),
    )


def _way_of_peer(record: PeerComparison, run: PeerRun) -> Way:
    return Way(
        name=run.name,
        title=run.title,
        words=run.way,
        versions=run.versions,
        wall_ms=run.wall_ms,
        processes=record.processes,
        stages_ms=run.stages_p50_ms,
        ratio=None if run.name == OURS else record.ratio(run.name),
        times_ours=record.times_ours(run.name),
        same_decisions=record.same_decisions(run.name),
        right=decides_alike(record, run.name),
        auroc=record.auroc(run.name),
        auroc_interval=record.auroc_interval(run.name),
        model_size_bytes=run.model_size_bytes,
        first_answers_ms=tuple(start.first_answer_ms for start in run.starts),
        peak_memory_mib=run.peak_memory_mib,
    )


def view_of_benchmark(record: Benchmark) -> View:
    """The page of `slimscan bench`, on a device or here.

    Raises:
        InputError: An image was not measured in every round.
    """
    ours = times_ms(record.samples, None, images=range(len(record.images)))
    starts = record.cold_starts
    return View(
        title=f"{record.bundle_id} on {record.environment.board or record.environment.architecture}",
        of_peers=False,
        command=record.command,
        started=record.started,
        bundle=record.bundle_id,
        bundle_sha256=record.bundle_sha256,
        threads=record.threads,
        images=record.images,
        left_out=record.left_out,
        synthetic=record.synthetic,
        ways=(
            Way(
                name=OURS,
                title="slimscan",
                words="the whole classifier with every check",
                versions={"interpreter": record.environment.interpreter},
                wall_ms=ours,
                processes=record.processes,
                stages_ms={name: record.stage(name).p50 for name in ("decode", "resize", "invoke", "decide")},
                ratio=None,
                times_ours=np.ones(len(record.images)),
                same_decisions=len(record.images),
                right=True,
                auroc=None,
                auroc_interval=None,
                model_size_bytes=record.bundle_size_bytes,
                first_answers_ms=tuple(pair.slimscan.first_answer_ms for pair in starts),
                peak_memory_mib=record.peak_memory_mib,
            ),
            *(_other_way(record, name, ours) for name in record.ways),
        ),
        aims=tuple(Aim(held=held, against="", why="") for held in record.bounds if held.value is not None),
        failures=(),
        scaling=record.scaling,
        macs=sum(operator.macs for operator in record.operators.operators) if record.operators else None,
        operators=record.operators,
        machine=machine_text(record.environment),
        environment=record.environment,
        concerns=record.concerns,
        invalid=record.invalid,
        notes=(),
    )


def _other_way(record: Benchmark, name: str, ours: NDArray[np.float64]) -> Way:
    wall = times_ms(record.samples, name, images=range(len(record.images)))
    is_floor = name == FLOOR
    otherwise = share_decided_otherwise(record.answers, name)
    return Way(
        name=name,
        title=_WAY_TITLES.get(name, name),
        words="on the same loaded interpreter",
        versions={},
        wall_ms=wall,
        processes=record.processes,
        stages_ms={},
        ratio=paired_ratio(ours, wall, processes=record.processes),
        times_ours=np.asarray(np.median(wall, axis=0) / np.median(ours, axis=0)),
        same_decisions=round((1.0 - otherwise) * len(record.answers)),
        right=otherwise <= OTHER_DECISIONS.at_most,
        auroc=None,
        auroc_interval=None,
        model_size_bytes=record.model_size_bytes,
        first_answers_ms=tuple(pair.floor.first_answer_ms for pair in record.cold_starts) if is_floor else (),
        peak_memory_mib=record.floor_peak_memory_mib if is_floor else None,
    )


def megapixels(images: Sequence[ImageFile]) -> NDArray[np.float64]:
    """Size of each image in millions of pixels, `[images]`."""
    return np.array([image.width * image.height / 1e6 for image in images])
