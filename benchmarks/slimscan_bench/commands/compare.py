"""`slimscan compare REF CAND DATA`: two models on the same images, paired."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from slimscan_bench.compare import SplitChoice, choose_images, compare, summarise, to_lines, to_table
from slimscan_bench.models import read_models
from slimscan_edge.atomic import write_atomically
from slimscan_edge.errors import EXIT_DONE, InputError
from slimscan_edge.records import to_json
from slimscan_train.dataset import Dataset, read_dataset
from slimscan_train.naming import RULES
from slimscan_train.shifts import SHIFTS

if TYPE_CHECKING:
    from slimscan_bench.models import Model

_DETAILS = """\
Each model is a run folder, a bundle, a .tflite or an .onnx file; a file that does not say it itself takes preprocessing
and threshold from the other. Both score the same images, and AUROC, sensitivity, specificity, Brier score, calibration
error, their paired differences, a sweep of thresholds and every changed decision are reported, over all and in each
subgroup, with --shifts also under each named shift of the pictures. Images that trained a run are refused. This only
tells: whether a difference may be accepted is decided by the gates of slimscan export.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = f"{parser.description}. {_DETAILS}"
    parser.add_argument("reference", type=Path, metavar="REF", help="the model that is trusted")
    parser.add_argument("candidate", type=Path, metavar="CAND", help="the model that would replace it")
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="folder of [SPLIT/]CLASS/image, or a CSV of path, label, patient, split"
    )
    parser.add_argument(
        "--split",
        choices=get_args(SplitChoice),
        help="images to score: those of a split, as a run or else the data names it (default: val if known, else all)",
    )
    parser.add_argument("--naming", choices=RULES, help="how names tell patients (default: as the run, or recognised)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap of patients (default: 0)")
    parser.add_argument(
        "--prevalence", type=float, metavar="P", help="also predictive values where a share P of the cases is positive"
    )
    parser.add_argument("--shifts", action="store_true", help="also score the images darker, blurred, turned and so on")
    parser.add_argument("--json", action="store_true", help="print the whole record as one JSON line instead")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write compare.json and compare.txt into DIR")


def run(arguments: argparse.Namespace) -> int:
    """Score, write the table and the record if a folder is given, and print one of them."""
    if arguments.seed < 0:
        raise InputError(f"--seed is {arguments.seed}, expected 0 or more")
    models = read_models(arguments.reference, arguments.candidate)
    dataset = _dataset(arguments, models)
    _note(f"{arguments.data}: {dataset.describe()}")
    images, data = choose_images(dataset, models, arguments.split)
    comparison = compare(
        models,
        dataset,
        images,
        data=data,
        seed=arguments.seed,
        prevalence=arguments.prevalence,
        shifts=tuple(SHIFTS) if arguments.shifts else (),
        note=_note,
    )
    _note("computing figures and bootstrap intervals")
    summary = summarise(comparison)
    record, lines = to_table(comparison, summary), "\n".join(to_lines(comparison, summary))
    try:  # written before it is printed, which fails where nobody reads
        if arguments.out:
            _write(arguments.out, record, lines)
    finally:
        print(to_json(record, allow_nan=True) if arguments.json else lines)
    return EXIT_DONE


def _write(folder: Path, record: dict[str, Any], lines: str) -> None:
    write_atomically(folder / "compare.json", (to_json(record, indent=1, allow_nan=True) + "\n").encode())
    write_atomically(folder / "compare.txt", f"{lines}\n".encode(errors="backslashreplace"))
    _note(f"record: {folder / 'compare.json'}")


def _dataset(arguments: argparse.Namespace, models: tuple["Model", "Model"]) -> Dataset:
    """The data set, read by the naming rule of a run when there is one, its classes being those of the models."""
    known = [model.split.naming for model in models if model.split is not None]
    naming = arguments.naming or next((rule for rule in known if rule in RULES), None)
    labels = models[0].labels
    dataset = read_dataset(arguments.data, naming=naming, positive=labels[1])
    if dataset.labels != labels:
        raise InputError(f"{arguments.data} holds the classes {dataset.labels}, the models tell {labels} apart")
    return dataset


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
