"""Whether the demo ends well whatever the arithmetic: `python benchmarks/demo_trials.py --out FILE.csv`.

Each trial is the demo with one seed under one variant of the arithmetic, in a process of its own and a folder that is
removed afterwards: drawing, training and export, or with `--whole` all of `slimscan demo`. A trial is one row of the
CSV, written when it has ended; trials that the file holds already are not run again. At the end the table is printed,
and the exit code is 0 if all of them passed.

`--compare EVIDENCE EVIDENCE ...` runs nothing: it says by how much finished exports (folders `NAME-VERSION.export`)
differ from the first of them in AUROC, threshold, decisions and verdict.
"""

import argparse
import csv
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import monotonic
from typing import Any, get_type_hints

import numpy as np

from slimscan_bench.intervals import auroc
from slimscan_edge.operating_point import OperatingPoint
from slimscan_export.commands.demo import BUNDLE, EVIDENCE

SEEDS = 20
VARIANTS: dict[str, dict[str, str]] = {
    "onednn-off": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "onednn-sse41": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "onednn-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "one-thread": {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"},
    "xla-off": {"SLIMSCAN_TRIAL_WITHOUT_XLA": "1"},
}
"""Each by the environment of its processes."""

_CHILD = """
import itertools, os, sys
from pathlib import Path
from slimscan_edge.cli import main
from slimscan_export.commands import demo
from slimscan_train.phantom import write_dataset
from slimscan_train.quiet import load_tensorflow

folder, seed, whole = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "whole"
if os.environ.get("SLIMSCAN_TRIAL_WITHOUT_XLA"):
    load_tensorflow()
    import tensorflow as tf
    traced = tf.function
    tf.function = lambda *words, **named: traced(*words, **{**named, "jit_compile": False})
if whole:
    sys.exit(main(["demo", "--out", str(folder), "--seed", str(seed)]))
os.environ["SLIMSCAN_CACHE"] = str(folder / "cache")
write_dataset(folder / "phantoms", patients=demo.PATIENTS, seed=seed)
for words in itertools.islice(demo.steps(folder, seed), 2):
    if code := main(words):
        sys.exit(code)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One row: what one demo came to.

    Attributes:
        seed: Of drawings, split and training.
        variant: Of the arithmetic.
        auroc: Of the float model on `val`; NaN, like what follows, when nothing was judged.
        worst_sensitivity: The float model's least under a named shift.
        worst_shift: Where that is.
        new_misses: Of int8, on all held-out images; -1 when nothing was judged.
        not_passed: Gates that did not pass.
        verdict: Of all gates; "" when nothing was judged.
        exit_code: Of the demo.
        bundle: Its bytes; 0 when none was written.
        seconds: On the wall.
        cpu_seconds: Of processors' time.
    """

    seed: int
    variant: str
    auroc: float = math.nan
    worst_sensitivity: float = math.nan
    worst_shift: str = ""
    new_misses: int = -1
    not_passed: str = ""
    verdict: str = ""
    exit_code: int
    bundle: int = 0
    seconds: float
    cpu_seconds: float

    @property
    def passed(self) -> bool:
        """It ended as a demo should: PASS, a bundle, exit code 0."""
        return self.verdict == "PASS" and self.bundle > 0 and self.exit_code == 0


def run_trial(seed: int, variant: str, *, whole: bool) -> Trial:
    """One demo in a process and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="slimscan-demo-trial-") as name:
        folder = Path(name) / "demo"
        command = [sys.executable, "-c", _CHILD, str(folder), str(seed), "whole" if whole else "short"]
        start, before = monotonic(), _children_seconds()
        done = subprocess.run(command, env={**os.environ, **VARIANTS[variant]}, capture_output=True, check=False)
        evidence, bundle = folder / EVIDENCE / "export.json", folder / BUNDLE
        if not evidence.exists():
            sys.stderr.buffer.write(done.stderr)
        return Trial(
            seed=seed,
            variant=variant,
            **(told(json.loads(evidence.read_text())) if evidence.exists() else {}),
            exit_code=done.returncode,
            bundle=bundle.stat().st_size if bundle.exists() else 0,
            seconds=round(monotonic() - start, 1),
            cpu_seconds=round(_children_seconds() - before, 1),
        )


def read_trials(path: Path) -> list[Trial]:
    """The rows of a CSV; none when there is no such file."""
    if not path.exists():
        return []
    kinds = get_type_hints(Trial)
    with path.open(newline="") as file:
        return [Trial(**{name: kinds[name](text) for name, text in row.items()}) for row in csv.DictReader(file)]


def append_trial(path: Path, trial: Trial) -> None:
    """Add a row to a CSV, which is made when it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Trial)])
        if not file.tell():
            table.writeheader()
        table.writerow(asdict(trial))


def table_lines(trials: Sequence[Trial]) -> Iterator[str]:
    """A table in Markdown: a row a seed, of each variant the verdict and what it hung on; then one line a variant."""
    variants = [name for name in VARIANTS if any(trial.variant == name for trial in trials)]
    cells = {(trial.seed, trial.variant): trial for trial in trials}
    yield f"| seed | {' | '.join(variants)} |"
    yield f"| --- |{' --- |' * len(variants)}"
    for seed in sorted({trial.seed for trial in trials}):
        yield f"| {seed} | {' | '.join(_cell(cells.get((seed, variant))) for variant in variants)} |"
    yield ""
    for variant in variants:
        of = [trial for trial in trials if trial.variant == variant]
        seconds = sorted(trial.seconds for trial in of)
        yield (
            f"{variant}: {sum(trial.passed for trial in of)} of {len(of)} passed; least AUROC "
            f"{min(trial.auroc for trial in of):.4f}, least sensitivity under a shift "
            f"{min(trial.worst_sensitivity for trial in of):.3f}, most new misses "
            f"{max(trial.new_misses for trial in of)}; {seconds[len(seconds) // 2]:.0f} s, at most {seconds[-1]:.0f}"
        )


def differences(tables: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How the evidence of exports differs from that of the first, one line each.

    Args:
        tables: What their `export.json` hold.
    """
    first = tables[0]
    for table in tables:
        decided, otherwise = _decisions(first, table)
        areas = (
            f"{model} AUROC {_auroc(table, model):.4f} ({_auroc(table, model) - _auroc(first, model):+.4f})"
            for model in ("float", "int8")
        )
        yield (
            f"verdict {table['verdict']}; on val {', '.join(areas)}; int8 threshold {_threshold(table):.3f} "
            f"({_threshold(table) - _threshold(first):+.3f}); {otherwise} of {decided} int8 decisions differ"
        )


def told(table: dict[str, Any]) -> dict[str, Any]:
    """What a row takes from an `export.json`, by the names of its fields."""
    positive = {row["image"]: row["positive"] for row in table["scores"]}
    sick = np.array([positive[image] for image in table["shift_images"]])
    threshold = OperatingPoint(**table["float_operating_point"]).logit_threshold
    found = {
        shift: float((np.array(both["float"])[sick] >= threshold).mean())
        for shift, both in table["shift_scores"].items()
    }
    worst = min(found, key=lambda shift: found[shift])
    failed = [gate for gate in table["gates"] if gate["verdict"] != "PASS"]
    return {
        "auroc": round(_auroc(table, "float"), 5),
        "worst_sensitivity": round(found[worst], 4),
        "worst_shift": worst,
        "new_misses": len(table["new_misses"]),
        "not_passed": "; ".join(f"{gate['verdict']} {gate['name']}" for gate in failed),
        "verdict": table["verdict"],
    }


def _auroc(table: dict[str, Any], model: str) -> float:
    rows = [row for row in table["scores"] if row["split"] == "val"]
    return auroc(np.array([row["positive"] for row in rows]), np.array([row[model] for row in rows]))


def _threshold(table: dict[str, Any]) -> float:
    return float(table["operating_point"]["threshold"])


def _decisions(first: dict[str, Any], second: dict[str, Any]) -> tuple[int, int]:
    """How many held-out images both know, and on how many of them int8 decides otherwise."""
    decided = []
    for table in (first, second):
        threshold = OperatingPoint(**table["operating_point"]).logit_threshold
        decided.append({row["image"]: row["int8"] >= threshold for row in table["scores"]})
    both = decided[0].keys() & decided[1].keys()
    return len(both), sum(decided[0][image] != decided[1][image] for image in both)


def _cell(trial: Trial | None) -> str:
    if trial is None:
        return ""
    if not trial.verdict:
        return f"**exit {trial.exit_code}**"
    verdict = trial.verdict if trial.passed else f"**{trial.verdict}, exit {trial.exit_code}**"
    return f"{verdict} {trial.auroc:.4f} {trial.worst_sensitivity:.3f} {trial.new_misses}"


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Run what is asked and not done yet, and print the table; 1 when a trial did not pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE", help="CSV of the trials, one row each; gone on with")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(SEEDS), metavar="N", help=f"(0 to {SEEDS - 1})")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="of the arithmetic (all)"
    )
    parser.add_argument(
        "--whole", action="store_true", help="all of `slimscan demo`, not drawing, training and export alone"
    )
    parser.add_argument(
        "--compare", type=Path, nargs="+", metavar="EVIDENCE", help="say how exports differ from the first"
    )
    arguments = parser.parse_args()
    if arguments.compare:
        print(
            "\n".join(differences([json.loads((folder / "export.json").read_text()) for folder in arguments.compare]))
        )
        return 0
    if not arguments.out:
        parser.error("--out FILE is needed")
    done = {(trial.seed, trial.variant) for trial in read_trials(arguments.out)}
    for seed, variant in itertools.product(arguments.seeds, arguments.variants):
        if (seed, variant) not in done:
            trial = run_trial(seed, variant, whole=arguments.whole)
            append_trial(arguments.out, trial)
            print(trial, file=sys.stderr, flush=True)
    asked = set(itertools.product(arguments.seeds, arguments.variants))
    trials = [trial for trial in read_trials(arguments.out) if (trial.seed, trial.variant) in asked]
    print("Verdict, the float model's AUROC on `val` and least sensitivity under a named shift, new misses of int8:\n")
    print("\n".join(table_lines(trials)))
    return int(not all(trial.passed for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
