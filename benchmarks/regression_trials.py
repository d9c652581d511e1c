"""How often `slimscan bench --compare` is right: `python benchmarks/regression_trials.py --out FILE [--trials 20]`.

Each trial compares this build with itself, which must not be called slower, and with itself under a planted slow-down:
every answer is followed by waiting busily for 10 % of the time that it took. That is planted from outside, by an
environment of Python whose `bin/python` is this one with another `sitecustomize`. Both are done in turn and, with
`--records`, by two records taken one after the other.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slimscan_bench.environment import read_environment
from slimscan_edge.interpreter import describe_package, import_interpreter, package_of

PLANTED = 0.10
BY_ITSELF = ("--processes", "5", "--repeats", "10", "--warmup", "3", "--cold-starts", "0")
_PLANT = """
from time import process_time
from slimscan_edge.classifier import Classifier

answer = Classifier.predict

def slower(self, source):
    start = process_time()
    finding = answer(self, source)
    end = process_time() + {share} * (process_time() - start)
    while process_time() < end:
        pass
    return finding

Classifier.predict = slower
"""
_MAIN = "import sys; from slimscan_edge.cli import main; sys.exit(main(sys.argv[1:]))"


def make_environment(folder: Path, share: float) -> Path:
    """A folder with `bin/python`: this Python, in which answers take longer by a share; returns the folder."""
    (folder / "bin").mkdir(parents=True)
    (folder / "plant").mkdir()
    if share:
        (folder / "plant" / "sitecustomize.py").write_text(_PLANT.format(share=share))
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}/plant:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


def slimscan(environment: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line of an environment."""
    command = [str(environment / "bin" / "python"), "-c", _MAIN, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})


def verdict_in_turn(old: Path, new: Path) -> dict[str, Any]:
    """One comparison of two environments that answer in turn."""
    return _verdict(slimscan(old, "bench", "--compare", old, new, "--json"))


def verdict_of_records(old: Path, new: Path) -> dict[str, Any]:
    """One comparison of two records, taken one after the other."""
    records = [old / "record.json", new / "record.json"]
    for environment, record in zip((old, new), records, strict=True):
        slimscan(environment, "bench", *BY_ITSELF, "--out", record)
    return _verdict(slimscan(old, "bench", "--compare", *records, "--json"))


def _verdict(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if not done.stdout:
        sys.exit(f"a comparison ended without an answer: {done.stderr.strip()}")
    record = json.loads(done.stdout)
    decides = record["changes"][0]
    return {
        "verdict": record["verdict"],
        "ratio": round(decides["ratio"], 4),
        "interval_95": [round(end, 4) for end in decides["interval"]],
        "invalid": record["invalid"],
        "load_average": record["environment"]["load_average"][0],
    }


def trials(ways: Sequence[str], count: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every comparison: way, what was planted, and what came of it."""
    compare = {"in turn": verdict_in_turn, "records": verdict_of_records}
    with tempfile.TemporaryDirectory(prefix="slimscan-trials-") as name:
        plain, same, slow = (
            make_environment(Path(name) / words, share)
            for words, share in (("old", 0.0), ("same", 0.0), ("slow", PLANTED))
        )
        for _ in range(count):
            for way in ways:
                yield way, "same build", compare[way](plain, same)
                yield way, "10 % slower", compare[way](plain, slow)


def main() -> int:
    """Run the trials, write each and count the verdicts; 1 when a slow-down was missed too often or imagined."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the record goes (JSON)")
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="of each kind (default: 20)")
    parser.add_argument("--records", action="store_true", help="also compare records taken one after the other")
    arguments = parser.parse_args()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    found: dict[str, list[dict[str, Any]]] = {}
    for way, planted, outcome in trials(
        ("in turn", "records") if arguments.records else ("in turn",), arguments.trials
    ):
        found.setdefault(f"{way}, {planted}", []).append(outcome)
        print(f"{way}, {planted}: {outcome}", file=sys.stderr, flush=True)
    counts = {kind: dict(Counter(outcome["verdict"] for outcome in outcomes)) for kind, outcomes in found.items()}
    here = read_environment(interpreter=describe_package(package_of(import_interpreter())))
    table = {
        "command": f"python benchmarks/regression_trials.py --trials {arguments.trials}"
        + (" --records" if arguments.records else ""),
        "started": started,
        "by_itself": BY_ITSELF,
        "counts": counts,
        "trials": found,
        "environment": {name: getattr(here, name) for name in type(here).__slots__},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(counts, indent=1))
    same, slow = found["in turn, same build"], found["in turn, 10 % slower"]
    missed = sum(outcome["verdict"] != "slower" for outcome in slow)
    imagined = sum(outcome["verdict"] == "slower" for outcome in same)
    return int(missed > 0.05 * len(slow) or imagined > 0)


if __name__ == "__main__":
    sys.exit(main())
