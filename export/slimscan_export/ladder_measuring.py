"""From a finished run to a measured ladder: make every row, judge it, time all of them in turn, and write it down."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.environment import read_environment
from slimscan_bench.macs import tflite_macs, tflite_sparsity
from slimscan_bench.report.ladder import SCHEMA_VERSION
from slimscan_edge.atomic import write_atomically
from slimscan_edge.bundle import GateResult, Verdict
from slimscan_edge.errors import SlimscanError
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.records import from_mapping
from slimscan_export import exporting
from slimscan_export.convert import PRECISIONS
from slimscan_export.exporting import Export, ExportConfig
from slimscan_export.fine_tuning import FineTuneConfig
from slimscan_export.gates import in_short
from slimscan_export.ladder import CARRIED, PICK_RULE, Answers, Ladder, Row
from slimscan_export.ladder_networks import FLOAT, RECOVERY, Networks, TrainingConfig
from slimscan_export.ladder_rows import RECIPES, Made, Recipe, Workshop, with_references
from slimscan_export.micro import arena_bytes_or_none
from slimscan_export.summary import split_pair
from slimscan_train.run import Run

LADDER = "ladder.json"

THREADS = 1
"""Of one inference: a row that needs more work shows it, and another process's moment costs no row more than others."""

ROUNDS = 40
INVOKES = 5
"""In a round each row answers this many times, after once unmeasured; their median is the round's latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderConfig:
    """What a ladder is asked.

    Attributes:
        rows: Names of rows; a pruned row brings the one that it is held against.
        recovery: How networks that lost channels are trained on.
    """

    rows: tuple[str, ...] = tuple(RECIPES)
    recovery: FineTuneConfig = RECOVERY

    def __post_init__(self) -> None:
        if unknown := [name for name in self.rows if name not in RECIPES]:
            raise ValueError(f"there is no row {unknown[0]!r}; known are {', '.join(RECIPES)}")
        if not any(recipe.precision == CARRIED for recipe in with_references(self.rows)):
            raise ValueError(f"of the rows {', '.join(self.rows)} none is {CARRIED}, and a bundle takes no other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the gates said of a row, and the seconds that it took."""

    answers: tuple[Answers, ...]
    gates: tuple[GateResult, ...]
    verdict: Verdict
    seconds: float


def climb(
    run: Run, config: ExportConfig, asked: LadderConfig, out: Path, note: Callable[[str], None]
) -> tuple[Ladder, Export]:
    """Make and measure all rows, and judge the picked one once more for its bundle.

    What is made is kept in `ladder/` beside the evidence: a ladder that was stopped goes on, and measures anew only
    latencies.

    Args:
        run: A finished run.
        config: What an export is asked; quantisation and sparsity are each row's own.
        asked: What the ladder is asked.
        out: The bundle's path.
        note: Told one line of plain text as work goes on.

    Returns:
        The ladder, and the export of its pick, or of the row that comes nearest.

    Raises:
        InputError: The run's images are gone or too few, or the folder cannot be written.
    """
    evidence = out.with_suffix(".export")
    folder = evidence / "ladder"
    recipes = with_references(asked.rows)
    networks = Networks(run, TrainingConfig(tuning=config.tuning, recovery=asked.recovery), folder, note)
    workshop = Workshop(run, networks, config.calibration, folder, note)
    judge = _Judge(run, config, networks, folder, note)
    made, judgements = {}, {}
    for one in workshop.make(recipes):  # float32 is judged before any training: what is amiss with the run shows early
        made[one.recipe.name], judgements[one.recipe.name] = one, judge(one)
    note(f"timing {len(recipes)} rows in turn, {ROUNDS} rounds")
    latencies = time_in_turn({name: one.model for name, one in made.items()})
    ladder = Ladder(
        rows=tuple(_row(made[r.name], judgements[r.name], latencies[r.name]) for r in recipes),
        threads=THREADS,
        environment=read_environment(interpreter=Interpreter(made[recipes[-1].name].model, threads=THREADS).backend),
    )
    write_atomically(evidence / LADDER, (json.dumps(ladder_table(ladder), indent=1) + "\n").encode())
    return ladder, judge.export(made[ladder.nearest.name], _float_variants(made))


def time_in_turn(
    models: Mapping[str, bytes], *, rounds: int = ROUNDS, invokes: int = INVOKES, seed: int = 0
) -> dict[str, tuple[float, ...]]:
    """Latencies of several models that take the same pixels, in rounds over all of them in a drawn order.

    Args:
        models: The bytes of each `.tflite`, by name.
        rounds: How often each has its turn.
        invokes: Measured invokes in a turn, after one that is not.
        seed: Of the order and of the pixels, which are noise: no kernel is faster for one picture than for another.

    Returns:
        By name, the median of each turn in milliseconds.
    """
    rng = np.random.default_rng(seed)
    interpreters = {name: Interpreter(model, threads=THREADS) for name, model in models.items()}
    shape = next(iter(interpreters.values())).input.shape
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name in rng.permutation(list(models)):
            found[name].append(_turn(interpreters[name], pixels, invokes))
    return {name: tuple(values) for name, values in found.items()}


def _turn(interpreter: Interpreter, pixels: NDArray[np.uint8], invokes: int) -> float:
    interpreter.invoke(pixels)  # brings the model back into the processor's caches
    taken = []
    for _ in range(invokes):
        start = perf_counter()
        interpreter.invoke(pixels)
        taken.append(perf_counter() - start)
    return round(1e3 * float(np.median(taken)), 4)


def ladder_table(ladder: Ladder) -> dict[str, Any]:
    """What `ladder.json` holds: every row with its observations, and what follows from them."""
    pick = ladder.pick
    return {
        "schema_version": SCHEMA_VERSION,
        "rule": PICK_RULE,
        "pick": pick.name if pick else None,
        "nearest": ladder.nearest.name,
        "threads": ladder.threads,
        "environment": asdict(ladder.environment),
        "rows": [_row_table(ladder, row) for row in ladder.rows],
    }


def _row_table(ladder: Ladder, row: Row) -> dict[str, Any]:
    rent = ladder.rent(row)
    low, high = row.latency_spread_ms
    return {
        "name": row.name,
        "words": row.recipe.words,
        **asdict(row),
        "latency_ms": row.latency_ms,
        "latency_p10_p90_ms": [low, high],
        "cost": row.cost,
        "rent": {**asdict(rent), "paid": rent.paid} if rent else None,
        "why_not": ladder.why_not(row),
    }


def _row(made: Made, judgement: Judgement, latencies: tuple[float, ...]) -> Row:
    return Row(
        recipe=made.recipe,
        size_bytes=len(made.model),
        deflated_bytes=len(zlib.compress(made.model, level=9)),
        sparsity=tflite_sparsity(made.model),
        macs=sum(tflite_macs(made.model).values()),
        arena_bytes=arena_bytes_or_none(made.model),
        latencies_ms=latencies,
        answers=judgement.answers,
        gates=judgement.gates,
        verdict=judgement.verdict,
        training_s=made.training_s,
        conversion_s=made.conversion_s,
        judging_s=judgement.seconds,
    )


def _float_variants(made: Mapping[str, Made]) -> dict[str, bytes]:
    """The files that every export leaves besides the candidate."""
    return {name: made[name].model for name in PRECISIONS if name in made}


class _Judge:
    """Holds rows against the run's float model; what was decided of a file by a policy is kept."""

    def __init__(
        self, run: Run, config: ExportConfig, networks: Networks, folder: Path, note: Callable[[str], None]
    ) -> None:
        self._run, self._config, self._networks = run, config, networks
        self._folder, self._note = folder, note

    def __call__(self, made: Made) -> Judgement:
        judged_from = self._judged_from(made)
        file = self._folder / f"{made.recipe.name}.judged.json"
        if kept := _read_judgement(file, judged_from):
            return kept
        self._note(f"{made.recipe.name}: judging")
        start = perf_counter()
        export = self.export(made, {})
        judgement = Judgement(
            answers=_answers(self._run, export),
            gates=in_short(export.gates),
            verdict=export.verdict,
            seconds=round(perf_counter() - start, 1),
        )
        self._note(f"{made.recipe.name}: {judgement.verdict}")
        table = {"judged_from": judged_from, **asdict(judgement)}
        write_atomically(file, (json.dumps(table, indent=1) + "\n").encode())
        return judgement

    def export(self, made: Made, variants: dict[str, bytes]) -> Export:
        """The row as an export, with the float network's other variants for its report."""
        return exporting.judge(
            self._run,
            _export_config(self._config, made.recipe),
            {**variants, CARRIED: made.model},
            self._networks[FLOAT],
            zeros=tflite_sparsity(made.model),
            note=self._note,
            arena=arena_bytes_or_none(made.model),
        )

    def _judged_from(self, made: Made) -> dict[str, Any]:
        """All that a judgement depends on, as JSON gives it back."""
        table = {
            "sha256": made.sha256,
            "policy": asdict(self._config.policy),
            "float": self._networks.made_from(FLOAT),
        }
        plain: dict[str, Any] = json.loads(json.dumps(table))
        return plain


def _export_config(config: ExportConfig, recipe: Recipe) -> ExportConfig:
    return replace(config, quantisation="qat" if recipe.network.aware else "ptq", sparsity=recipe.network.zeros)


def _answers(run: Run, export: Export) -> tuple[Answers, ...]:
    parts = split_pair(run.split, export.candidate.pair)
    return tuple(
        Answers(
            split=name,
            images=len(pair),
            positives=pair.reference.positives,
            auroc=pair.candidate.auroc if pair.reference.positives and pair.reference.negatives else None,
            new_misses=pair.new_misses,
            new_false_alarms=pair.new_false_alarms,
        )
        for name, pair in parts.items()
    )


def _read_judgement(file: Path, judged_from: dict[str, Any]) -> Judgement | None:
    """What was decided before of the same file by the same policy."""
    try:
        table = json.loads(file.read_text())
        if table.pop("judged_from") != judged_from:
            return None
        answers = tuple(from_mapping(Answers, answer, where=str(file)) for answer in table.pop("answers"))
        gates = tuple(from_mapping(GateResult, gate, where=str(file)) for gate in table.pop("gates"))
        return Judgement(answers=answers, gates=gates, **table)
    except (OSError, ValueError, TypeError, KeyError, SlimscanError):  # never finished, or of another version
        return None
