"""A run of peers as lines for people."""

from slimscan_bench.benchmark import machine_text, memory_text
from slimscan_bench.bootstrap import interval_text
from slimscan_bench.peers.comparison import PeerComparison, PeerRun, quantiles
from slimscan_bench.peers.targets import targets, why_missed


def lines(record: PeerComparison) -> list[str]:
    """Latency, accuracy, start and memory of each, the aims with their verdicts, and who failed."""
    images, rounds = len(record.images), len(record.ours.wall_us)
    return [
        f"bundle   {record.bundle_id}, sha256 {record.bundle_sha256[:12]}",
        f"machine  {machine_text(record.environment)}",
        f"images   {images}, {rounds} rounds in {record.processes} processes of each, {record.threads} threads"
        + (f"; {len(record.left_out)} rejected and left out" if record.left_out else ""),
        "",
        f"{'':20}{'p50 ms':>8}  {'95 % interval':^17}{'p90':>8}{'p99':>8}{'ours/it':>9}{'same':>6}{'first ms':>10}",
        *(_line(record, run) for run in record.runs),
        *(f"  {failure.title:18} failed: {failure.reason}" for failure in record.failures),
        "",
        *_aims(record),
        *(f"caution: {concern}" for concern in record.concerns),
    ]


def _line(record: PeerComparison, run: PeerRun) -> str:
    found = quantiles(run.wall_ms, processes=record.processes)
    median, interval = found[0.5]
    first = "-" if run.first_answer_p50_ms is None else f"{run.first_answer_p50_ms:.0f}"
    return (
        f"  {run.title:18}{median:8.2f}  {interval_text(interval, 2):^17}{found[0.9][0]:8.2f}{found[0.99][0]:8.2f}"
        f"{record.ratio(run.name).value:9.3f}{record.same_decisions(run.name):6}{first:>10}"
        f"   {memory_text(run.peak_memory_mib)}"
    )


def _aims(record: PeerComparison) -> list[str]:
    found = [f"{'aim':46}{'measured':>9}{'at most':>9}"]
    for held, against in targets(record):
        value = "-" if held.value is None else f"{held.value:.3g}"
        found.append(f"  {held.bound.name:44}{value:>9}{held.bound.at_most:9.3g}   {held.verdict}")
        if why := why_missed(record, held, against):
            found.append(f"    {why}")
    return found
