"""The record of one `slimscan bench --compare`: two records, or two bundles or builds that answered in turn."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.benchmark import SCHEMA_VERSION as RECORD_VERSION
from slimscan_bench.benchmark import Benchmark, machine_text
from slimscan_bench.environment import Environment, concerns_between
from slimscan_bench.latency import Taken
from slimscan_bench.reading import read_record
from slimscan_bench.regression import (
    Change,
    Verdict,
    change_between_runs,
    change_in_turn,
    change_of_instructions,
)
from slimscan_bench.side_by_side import Clock
from slimscan_bench.turns import Turns
from slimscan_bench.validity import differences, reasons_invalid
from slimscan_edge.errors import EXIT_DONE, EXIT_GATE_FAILED, EXIT_GATE_INCONCLUSIVE, InputError

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedComparison:
    """A new one against an old one.

    Attributes:
        old: What the old one is, in words.
        new: What the new one is.
        how: How they were compared, in words.
        changes: New over old; the first one decides.
        invalid: Reasons why times are worth nothing.
        differences: In what the environments differ; only where that was allowed.
        concerns: What a reader must know besides.
        environment: The machine, before; of the new one where there are two.
        turns: Every answer, where they were given in turn.
    """

    old: str
    new: str
    how: str
    changes: tuple[Change, ...]
    invalid: tuple[str, ...]
    differences: tuple[str, ...]
    concerns: tuple[str, ...]
    environment: Environment
    turns: Turns | None = None

    @property
    def verdict(self) -> Verdict:
        """Faster, slower or cannot tell; never told from times that are worth nothing."""
        decides = self.changes[0]
        return "cannot tell" if self.invalid and not decides.counted else decides.verdict

    @property
    def exit_code(self) -> int:
        """1 when slower; 3 when nobody can tell and being slower by the margin is not ruled out; else 0."""
        if self.verdict == "slower":
            return EXIT_GATE_FAILED
        trusted = self.changes[0].counted or not self.invalid
        return EXIT_DONE if trusted and self.changes[0].excludes_slower else EXIT_GATE_INCONCLUSIVE

    def to_table(self) -> dict[str, Any]:
        """Plain values for JSON: `schema_version`, the verdict and every field."""
        return {"schema_version": SCHEMA_VERSION, "verdict": self.verdict, **dataclasses.asdict(self)}

    def to_lines(self) -> list[str]:
        """The report for people, line by line."""
        return [
            f"old      {self.old}",
            f"new      {self.new}",
            f"machine  {machine_text(self.environment)}",
            f"measured {self.how}",
            *(f"ACROSS ENVIRONMENTS: {difference}" for difference in self.differences),
            "",
            f"new over old{'':30}{'ratio':>7}   95 % interval",
            *(_change_line(change) for change in self.changes),
            *(f"caution: {concern}" for concern in self.concerns),
            *(f"INVALID: {reason}" for reason in self.invalid),
            "",
            self._verdict_line(),
        ]

    def _verdict_line(self) -> str:
        decides = self.changes[0]
        verdict = {"faster": "FASTER", "slower": "SLOWER", "cannot tell": "CANNOT TELL"}[self.verdict]
        if self.invalid and not decides.counted:
            return f"{verdict}: the times are worth nothing"
        change = f"{decides.what} {decides.ratio - 1:+.1%}, at least {decides.margin:.0%} is told"
        ruled_out = (
            "; slower by as much is ruled out" if decides.excludes_slower and decides.verdict != "faster" else ""
        )
        return f"{verdict}: {change}{ruled_out}"


def read_benchmark(path: Path) -> Benchmark:
    """Read a record that `slimscan bench --out FILE` wrote.

    Raises:
        InputError: It cannot be read, is none, or is of another version.
    """
    try:
        table = json.loads(path.read_text())
    except OSError as exc:
        raise InputError(f"{path} cannot be read ({exc.strerror or exc}); give a record of slimscan bench") from exc
    except ValueError as exc:
        raise InputError(f"{path} is no JSON ({exc}); give a record of slimscan bench --out FILE") from exc
    return benchmark_of(table, where=str(path))


def benchmark_of(table: Any, *, where: str) -> Benchmark:
    """The record that a table of JSON holds.

    Raises:
        InputError: It holds none, or one of another version.
    """
    version = table.get("schema_version") if isinstance(table, Mapping) else None
    if version != RECORD_VERSION or "samples" not in table:
        raise InputError(
            f"{where} is no record of slimscan bench of version {RECORD_VERSION} (it says {version!r}); measure it "
            "anew with this version of slimscan"
        )
    fields = {name: value for name, value in table.items() if name not in ("schema_version", "summary")}
    return read_record(Benchmark, fields, where=where)


def compare_records(old: Benchmark, new: Benchmark, *, clock: Clock, across: bool) -> SpeedComparison:
    """Compare two runs: by instructions where both have counted them, else by time.

    Args:
        old: The run before.
        new: The run to judge.
        clock: Which time decides where instructions do not.
        across: Whether runs of different environments may be compared.

    Raises:
        InputError: They measured other images or with other threads, in environments that differ, or hold too few
            rounds.
    """
    _check_alike(old, new)
    found = differences(old.environment, new.environment)
    if found and not across:
        raise InputError(
            f"the two runs are of different environments ({'; '.join(found)}); measure both in one, or add "
            "--across-environments"
        )
    counted = _counted(old, new)
    return SpeedComparison(
        old=_run_text(old),
        new=_run_text(new),
        how="one run after the other" + ("; instructions decide" if counted else ""),
        changes=(*counted, *(_between(old, new, which) for which in _clocks(clock))),
        invalid=tuple(f"{name}: {why}" for name, run in (("old", old), ("new", new)) for why in run.invalid),
        differences=found,
        concerns=tuple(f"{name}: {why}" for name, run in (("old", old), ("new", new)) for why in run.concerns),
        environment=new.environment,
    )


def compare_in_turn(
    turns: Turns, names: tuple[str, str], *, before: Environment, after: Environment, clock: Clock
) -> SpeedComparison:
    """Compare two sides that answered in turn.

    Args:
        turns: From `slimscan_bench.turns.measure_in_turn`.
        names: Of the old and the new side, as they were given.
        before: The machine before.
        after: The machine afterwards.
        clock: Which time decides.

    Raises:
        InputError: There were too few pairs of processes.
    """
    pairs = len({turn.pair for turn in turns.turns})
    rounds = len({turn.round for turn in turns.turns})
    otherwise = turns.decided_otherwise
    return SpeedComparison(
        old=_side_text(names[0], turns.old),
        new=_side_text(names[1], turns.new),
        how=f"in turn: {pairs} pairs of processes, {rounds} rounds over {len(turns.images)} images in each",
        changes=tuple(change_in_turn(turns.turns, which) for which in _clocks(clock)),
        invalid=reasons_invalid(before, after),
        differences=(),
        concerns=(
            *concerns_between(before, after),
            *(
                [f"the new one decides otherwise on {len(otherwise)} of {len(turns.images)} images"]
                if otherwise
                else []
            ),
        ),
        environment=before,
        turns=turns,
    )


def _clocks(first: Clock) -> tuple[Clock, ...]:
    return (first, *(clock for clock in get_args(Clock) if clock != first))


def _check_alike(old: Benchmark, new: Benchmark) -> None:
    if old.images != new.images:
        raise InputError(
            f"the two runs measured different images ({len(old.images)} and {len(new.images)}, or of other names and "
            "sizes); measure both on the same"
        )
    if old.threads != new.threads:
        raise InputError(f"the two runs used {old.threads} and {new.threads} threads; measure both with the same")


def _counted(old: Benchmark, new: Benchmark) -> tuple[Change, ...]:
    ours = [next((row for row in run.instructions if row.way == "slimscan"), None) for run in (old, new)]
    if ours[0] is None or ours[1] is None or ours[0].image != ours[1].image:
        return ()
    return (change_of_instructions(ours[0].per_answer, ours[1].per_answer),)


def _between(old: Benchmark, new: Benchmark, clock: Clock) -> Change:
    return change_between_runs(
        _calibrated(old, clock), _calibrated(new, clock), clock, processes=(old.processes, new.processes)
    )


def _calibrated(run: Benchmark, clock: Clock) -> NDArray[np.float64]:
    """Answers over the fixed work right after each, `[rounds, images]`."""
    table = np.full((1 + max(sample.round for sample in run.samples), len(run.images)), np.nan)
    for sample in run.samples:
        table[sample.round, sample.image] = _time(sample.taken, clock) / _time(sample.calibration, clock)
    if np.isnan(table).any():
        raise InputError("an image was not measured in every round, so that the runs cannot be compared")
    return table


def _time(taken: Taken, clock: Clock) -> float:
    return taken.wall_ms if clock == "wall" else taken.cpu_ms


def _run_text(run: Benchmark) -> str:
    return f"{run.bundle_id} ({run.bundle_sha256[:12]}), {run.started}: {run.command}"


def _side_text(name: str, loaded: Mapping[str, Any]) -> str:
    return (
        f"{name}: slimscan {loaded['slimscan']} with {loaded['bundle_id']} ({loaded['bundle_sha256'][:12]}), "
        f"{loaded['interpreter']}, {loaded['threads']} threads"
    )


def _change_line(change: Change) -> str:
    low, high = change.interval
    interval = "counted" if change.counted else f"{low:.3f} to {high:.3f}"
    return f"  {change.what:40}{change.ratio:7.3f}   {interval:16}   {change.verdict}"
