"""The compression ladder: every way to make the model smaller, measured and judged alike, and the cheapest that passes.

Every row is held against the same float model by the same gates. A pruned row that is neither smaller nor faster than
the same recipe without pruning is dropped: pruning has to pay. Latencies are taken in turn, row after row and round
after round, so that a busy moment of the machine falls on all alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.bootstrap import Interval, clustered_interval
from slimscan_bench.environment import Environment
from slimscan_edge.bundle import GateResult, Verdict
from slimscan_export.ladder_rows import Recipe

LEAST_GAIN = 0.02
"""Share by which a pruned row's file or latency must be better than the same recipe without pruning."""

TIE = 0.02
"""Costs within this share of the least count as equal: latency is not measured more finely."""

CARRIED = "int8"
"""The precision that a bundle takes: raw pixels in, int8 throughout, which every device and microcontroller runs."""

PICK_RULE = (
    "Of the int8 rows that are not dropped and whose gates all pass, the one with the least product of median latency "
    f"and file size; of those within {TIE:.0%} of the least, the one whose file deflates smallest."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How one row answers on one set of held-out patients, against the float model.

    Attributes:
        split: Which set.
        images: How many.
        positives: How many of them.
        auroc: Of the row, 0 to 1; None where a class is absent.
        new_misses: Positives that the float model finds and the row misses.
        new_false_alarms: Negatives that the float model clears and the row does not.
    """

    split: str
    images: int
    positives: int
    auroc: float | None
    new_misses: tuple[str, ...]
    new_false_alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row as it was measured.

    Attributes:
        recipe: What it is.
        size_bytes: Of the file, as a bundle stores it.
        deflated_bytes: Of the file when it is sent compressed.
        sparsity: Share of zeros among its kernels, 0 to 1.
        macs: Multiply-accumulates of one image.
        arena_bytes: Memory in TFLite Micro; None where that does not run it.
        latencies_ms: Median of each round's invokes.
        answers: On each set of held-out patients.
        gates: What was decided.
        verdict: Of all gates together.
        training_s: Seconds of training beyond the rows before it.
        conversion_s: Seconds of conversion.
        judging_s: Seconds of scoring and judging.
    """

    recipe: Recipe
    size_bytes: int
    deflated_bytes: int
    sparsity: float
    macs: int
    arena_bytes: int | None
    latencies_ms: tuple[float, ...]
    answers: tuple[Answers, ...]
    gates: tuple[GateResult, ...]
    verdict: Verdict
    training_s: float
    conversion_s: float
    judging_s: float

    @property
    def name(self) -> str:
        """Of the recipe."""
        return self.recipe.name

    @property
    def latency_ms(self) -> float:
        """Median over the rounds."""
        return float(np.median(self.latencies_ms))

    @property
    def latency_spread_ms(self) -> tuple[float, float]:
        """The central 80 % of the rounds."""
        low, high = np.quantile(self.latencies_ms, (0.1, 0.9))
        return float(low), float(high)

    @property
    def cost(self) -> float:
        """What the pick goes by: milliseconds times KiB."""
        return self.latency_ms * self.size_bytes / 1024

    @property
    def carried(self) -> bool:
        """A bundle can carry it."""
        return self.recipe.precision == CARRIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Rent:
    """What pruning gained against the same recipe without it: shares, above 0 for less of it, below 0 for more.

    Attributes:
        against: Name of the row without pruning.
        size: Of the file.
        deflated: Of the deflated file.
        latency: Of the latency: the median of the rounds' own gains.
        latency_interval: Its 95 % interval, rounds drawn.
    """

    against: str
    size: float
    deflated: float
    latency: float
    latency_interval: Interval

    @property
    def paid(self) -> bool:
        """The file is smaller, or the latency is surely less, by `LEAST_GAIN` or more."""
        faster = self.latency >= LEAST_GAIN and self.latency_interval.low > 0
        return max(self.size, self.deflated) >= LEAST_GAIN or faster

    @property
    def words(self) -> str:
        """What changed, in words."""
        size, deflated, latency, high, low = (
            f"{round(-gain, 3) + 0.0:+.1%}" for gain in (self.size, self.deflated, self.latency, *self.latency_interval)
        )
        return (
            f"against {self.against} its file changes by {size}, deflated by {deflated}, "
            f"its latency by {latency} ({low} to {high})"
        )


def rent_of(row: Row, reference: Row) -> Rent:
    """Hold a pruned row against the same recipe without pruning; both were timed in the same rounds."""
    gains = 1.0 - np.array(row.latencies_ms) / np.array(reference.latencies_ms)

    def median(drawn: NDArray[np.intp]) -> float:
        return float(np.median(gains[drawn]))

    return Rent(
        against=reference.name,
        size=1.0 - row.size_bytes / reference.size_bytes,
        deflated=1.0 - row.deflated_bytes / reference.deflated_bytes,
        latency=float(np.median(gains)),
        latency_interval=clustered_interval(median, [str(i) for i in range(len(gains))], seed=0, resamples=1000),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """All rows, and what follows from them.

    Attributes:
        rows: In the order of `RECIPES`; with every pruned row the one without its pruning, and an int8 row at least.
        threads: Of one inference in every latency.
        environment: Where latencies were measured.
    """

    rows: tuple[Row, ...]
    threads: int
    environment: Environment

    def rent(self, row: Row) -> Rent | None:
        """What the pruning of a row gained; None when it is not pruned."""
        reference = row.recipe.unpruned
        return rent_of(row, next(other for other in self.rows if other.recipe == reference)) if reference else None

    def why_not(self, row: Row) -> str:
        """Why a row cannot be picked; empty when it can."""
        if not row.carried:
            return "not for a bundle, which takes int8 throughout"
        if (rent := self.rent(row)) and not rent.paid:
            return f"dropped, its pruning gains nothing: {rent.words}"
        return ", ".join(f"{gate.name} {gate.verdict}" for gate in row.gates if gate.verdict != "PASS")

    @property
    def pick(self) -> Row | None:
        """By `PICK_RULE`; None when no row qualifies."""
        return _cheapest([row for row in self.rows if not self.why_not(row)])

    @property
    def nearest(self) -> Row:
        """The pick, or what comes nearest to one: INCONCLUSIVE before FAIL, then the fewest gates that did not pass."""
        carried = [row for row in self.rows if row.carried and not ((rent := self.rent(row)) and not rent.paid)]
        order: tuple[Verdict, ...] = ("PASS", "INCONCLUSIVE", "FAIL")

        def distance(row: Row) -> tuple[int, int]:
            return order.index(row.verdict), sum(gate.verdict != "PASS" for gate in row.gates)

        least = min(distance(row) for row in carried)
        found = _cheapest([row for row in carried if distance(row) == least])
        assert found  # an int8 row without pruning is never dropped
        return found

    @property
    def front(self) -> tuple[Row, ...]:
        """Rows that pass and that no other such row beats in size or latency without losing in the other; by size."""
        passed = sorted(
            (row for row in self.rows if row.verdict == "PASS"), key=lambda row: (row.size_bytes, row.latency_ms)
        )
        return tuple(row for row in passed if not any(_beats(other, row) for other in passed))


def _beats(one: Row, other: Row) -> bool:
    left, right = (one.size_bytes, one.latency_ms), (other.size_bytes, other.latency_ms)
    return left != right and left[0] <= right[0] and left[1] <= right[1]


def in_lines(ladder: Ladder) -> list[str]:
    """The ladder as lines for a screen: a row each, the rule, the pick."""
    lines = [
        f"{'row':12} {'bytes':>9} {'deflated':>9} {'Mmacs':>6} {'ms':>7} {'AUROC':>15} {'misses':>6} {'alarms':>6}"
    ]
    for row in ladder.rows:
        auroc = " / ".join("-" if found.auroc is None else f"{found.auroc:.4f}" for found in row.answers)
        misses = sum(len(found.new_misses) for found in row.answers)
        alarms = sum(len(found.new_false_alarms) for found in row.answers)
        why = ladder.why_not(row)
        lines.append(
            f"{row.name:12} {row.size_bytes:9,} {row.deflated_bytes:9,} {row.macs / 1e6:6.1f} {row.latency_ms:7.3f} "
            f"{auroc:>15} {misses:6} {alarms:6} {row.verdict}{f' ({why})' if why else ''}"
        )
    pick = ladder.pick
    return [*lines, PICK_RULE, f"picked: {pick.name}" if pick else f"no row qualifies; nearest: {ladder.nearest.name}"]


def _cheapest(rows: Sequence[Row]) -> Row | None:
    if not rows:
        return None
    least = min(row.cost for row in rows)
    return min((row for row in rows if row.cost <= least * (1 + TIE)), key=lambda row: row.deflated_bytes)
