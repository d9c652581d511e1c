"""`slimscan demo`: the whole chain on schematic X-rays that it draws itself, each step as one would type it."""

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from slimscan_edge.atomic import write_atomically
from slimscan_edge.cli import main
from slimscan_edge.errors import EXIT_DONE, EXIT_GATE_INCONCLUSIVE, InputError
from slimscan_train.phantom import CLASS_FOLDERS, write_dataset
from slimscan_train.quiet import require_avx
from slimscan_train.run import read_run

PATIENTS = 1000
PREDICTED_PER_GROUP = 2
MARK = ".slimscan-demo.json"
"""Says that a folder is a demo's own, which the next demo may replace."""
BUNDLE, EVIDENCE = "phantom-0.1.0.slimscan", "phantom-0.1.0.export"
PRODUCTS = {
    "phantoms": "the drawn X-rays",
    "run": "the float model and its split, scores and report",
    EVIDENCE: "what the gates saw, and the model in four precisions",
    BUNDLE: "the bundle that a device would get",
    "overlays": "held-out X-rays with their evidence",
    "comparison": "float against int8, image by image",
    "benchmark.json": "latency on this machine, every raw value",
    "cache": "decoded pixels",
}
"""All that a demo writes into its folder, and so all that the next one removes from it."""

_DETAILS = """\
Draws some 1,250 chests of 1,000 children who do not exist, trains on them, compresses the model to int8, lets the gates
judge it, answers for a few held-out pictures with overlays, compares float with int8, and measures latency: four
minutes at most on two idle cores. A model that learnt drawings knows nothing of X-rays; no figure here says anything of
a disease. Exit code 0 means that every gate passed; times are for show, also where bench calls them INVALID.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = f"{parser.description}. {_DETAILS}"
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="folder to write (./demo)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of drawings, split and training (0)")


def run(arguments: argparse.Namespace) -> int:
    """Go through the chain; the exit code is that of the first step that did not end well."""
    require_avx()
    folder, seed, start = arguments.out, arguments.seed, monotonic()
    if seed < 0:
        raise InputError(f"--seed is {seed}, expected 0 or more")
    _make_room(folder, seed)
    os.environ.setdefault("SLIMSCAN_CACHE", str(folder / "cache"))  # nothing is left outside the folder
    _note(f"drawing the X-rays of {PATIENTS:,} children, seed {seed}; {CLASS_FOLDERS['virus']} is the positive class")
    write_dataset(folder / "phantoms", patients=PATIENTS, seed=seed)
    for words in steps(folder, seed):
        _note(f"\n$ slimscan {shlex.join(words)}")
        code = main(words)
        if words[0] == "bench" and code == EXIT_GATE_INCONCLUSIVE:  # nothing is judged by it here
            print("\nthis machine was busy, or slowed down: the times above are for show, and no figure to keep")
        elif code:
            print(f"\nthe demo ends here: slimscan {words[0]} ended with exit code {code}")
            break
    else:
        code = EXIT_DONE
        print("\nevery gate passed")
    _list_products(folder, seconds=monotonic() - start)
    return code


def steps(folder: Path, seed: int) -> Iterator[list[str]]:
    """The demo's command lines, each made when those before it are done: the first two train and export.

    Args:
        folder: The demo's, with the drawings in `phantoms`.
        seed: Of split and training.
    """
    phantoms, trained, bundle = str(folder / "phantoms"), str(folder / "run"), str(folder / BUNDLE)
    seeds = ["--seed", str(seed), "--set", f"split.seed={seed}"]
    yield ["train", phantoms, "--out", trained, "--recipe", "demo", *seeds]
    yield ["export", trained, "--out", bundle]
    yield ["predict", *_held_out(folder), "--bundle", bundle, "--overlay", str(folder / "overlays")]
    yield ["compare", trained, bundle, phantoms, "--split", "val", "--out", str(folder / "comparison")]
    measured = ["--processes", "2", "--repeats", "10", "--cold-starts", "2", "--out", str(folder / "benchmark.json")]
    yield ["bench", "--bundle", bundle, *measured]


def _held_out(folder: Path) -> list[str]:
    """A few validation images of each group."""
    trained = read_run(folder / "run")
    by_group: dict[str, list[str]] = {}
    for image in trained.split.select("val"):
        by_group.setdefault(image.group, []).append(str(trained.data_root / image.path))
    return [path for paths in by_group.values() for path in paths[:PREDICTED_PER_GROUP]]


def _make_room(folder: Path, seed: int) -> None:
    """Make the folder, or remove what an earlier demo wrote into its own; other files there stay.

    Raises:
        InputError: The folder holds something and is no demo's, or cannot be written.
    """
    try:
        if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is neither empty nor a demo's own; give another folder with --out")
        # First of all, so that a demo that is stopped half-way is known again.
        write_atomically(folder / MARK, (json.dumps({"command": "slimscan demo", "seed": seed}) + "\n").encode())
        for name in PRODUCTS:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as exc:
        raise InputError(f"{folder} cannot be written ({exc.strerror or exc}); give another with --out") from exc


def _list_products(folder: Path, *, seconds: float) -> None:
    print(f"{seconds:.0f} s; in {folder}:")
    for name, what in PRODUCTS.items():
        if (folder / name).exists():
            print(f"  {name:22} {what}")
    for report in (folder / "run" / "report.html", folder / EVIDENCE / "report.html"):
        if report.exists():
            print(f"report: {report}")


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
