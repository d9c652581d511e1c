"""What the project aims at beside its peers, and whether a run of them keeps to it."""

from collections.abc import Callable, Iterable

from slimscan_bench.bounds import OTHER_DECISIONS, OVER_FLOOR, Bound, Held, exact
from slimscan_bench.peers.comparison import PeerComparison, PeerRun
from slimscan_bench.peers.roster import FLOOR, TENSORFLOW
from slimscan_bench.side_by_side import Ratio

FASTER = Bound(
    name="file to finding over the fastest peer's",
    at_most=1 / 1.5,
    why="our aim: at least 1.5 times faster than the fastest peer's usual way",
)
START_FASTEST = Bound(
    name="first answer over the fastest peer's",
    at_most=1.0,
    why="our aim: on a small device starting costs more than answering",
)
START_TENSORFLOW = Bound(name="first answer over TensorFlow's", at_most=0.1, why="our aim: no training package starts")
MEMORY_LEANEST = Bound(
    name="peak memory over the leanest peer's", at_most=1.0, why="our aim: a device has 512 MB for everything"
)
MEMORY_TENSORFLOW = Bound(
    name="peak memory over TensorFlow's", at_most=0.15, why="our aim: no training package is loaded"
)


def right_peers(record: PeerComparison) -> tuple[PeerRun, ...]:
    """The peers that answer as we do on all but a share of the images: nobody wins by being wrong."""
    return tuple(run for run in record.peers if decides_alike(record, run.name))


def decides_alike(record: PeerComparison, name: str) -> bool:
    """Whether one answers as we do on all but the share of the images that is allowed."""
    otherwise = len(record.images) - record.same_decisions(name)
    return otherwise <= OTHER_DECISIONS.at_most * len(record.images)


def targets(record: PeerComparison) -> tuple[tuple[Held, str], ...]:
    """Every aim beside what was measured, with the peer that it was measured against ("" for none)."""
    right = right_peers(record)
    fastest = _least(right, lambda run: run.p50_ms)
    first = _least(right, lambda run: run.first_answer_p50_ms)
    leanest = _least(right, lambda run: run.peak_memory_mib)
    floor = record.run(FLOOR) if record.has(FLOOR) else None
    tensorflow = record.run(TENSORFLOW) if record.has(TENSORFLOW) else None
    return (
        _ratio(FASTER, fastest, record.ratio),
        _ratio(OVER_FLOOR, floor, record.ratio),
        _ratio(START_FASTEST, first, record.start_ratio),
        _ratio(START_TENSORFLOW, tensorflow if tensorflow and tensorflow.starts else None, record.start_ratio),
        _memory(MEMORY_LEANEST, record.ours, leanest),
        _memory(MEMORY_TENSORFLOW, record.ours, tensorflow),
    )


def why_missed(record: PeerComparison, held: Held, against: str) -> str:
    """Where the time goes that an aim is missed by, stage by stage; empty where it is kept or is not of time."""
    if held.verdict == "PASS" or not against:
        return ""
    ours, other = record.ours, record.run(against)
    if held.bound in (FASTER, OVER_FLOOR):
        return f"{_stages(ours)}; {_stages(other)}"
    if held.bound in (START_FASTEST, START_TENSORFLOW):
        return f"{_start(ours)}; {_start(other)}"
    return f"{ours.title} {ours.peak_memory_mib:.1f} MiB; {other.title} {other.peak_memory_mib:.1f} MiB"


def _least(runs: Iterable[PeerRun], figure: Callable[[PeerRun], float | None]) -> PeerRun | None:
    found = [(value, i, run) for i, run in enumerate(runs) if (value := figure(run)) is not None]
    return min(found)[2] if found else None


def _ratio(bound: Bound, run: PeerRun | None, ratio: Callable[[str], Ratio]) -> tuple[Held, str]:
    if run is None:
        return Held(bound=bound, value=None, interval=None), ""
    found = ratio(run.name)
    return Held(bound=bound, value=found.value, interval=found.interval), run.name


def _memory(bound: Bound, ours: PeerRun, run: PeerRun | None) -> tuple[Held, str]:
    if run is None or not run.peak_memory_mib or not ours.peak_memory_mib:
        return exact(bound, None), ""
    return exact(bound, ours.peak_memory_mib / run.peak_memory_mib), run.name


def _stages(run: PeerRun) -> str:
    stages = ", ".join(f"{name} {value:.2f}" for name, value in run.stages_p50_ms.items())
    return f"{run.title} {run.p50_ms:.2f} ms ({stages})"


def _start(run: PeerRun) -> str:
    loading = sorted(start.ready_ms for start in run.starts)[len(run.starts) // 2]
    return f"{run.title} {run.first_answer_p50_ms:.0f} ms ({loading:.0f} until the model is loaded)"
