"""`slimscan compare REF CAND DATA`: two models on the same images, paired."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from slimscan_bench.compare import SplitChoice, choose_images, compare, summarise, to_lines, to_table
from slimscan_bench.models import read_models
from slimscan_edge.atomic import write_atomically
from slimscan_edge.errors import EXIT_DONE, InputError
from slimscan_edge.files import unreadable_in_words
from slimscan_edge.records import to_json
from slimscan_train.commands.data_options import DATA_HELP, add_reading_options, read_and_tell, reading_asked
from slimscan_train.dataset import Dataset, Reading
from slimscan_train.naming import RULES
from slimscan_train.run import recorded_reading
from slimscan_train.shifts import SHIFTS
from slimscan_train.sources.classes import class_key

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
    parser.add_argument("data", type=Path, metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--split",
        choices=get_args(SplitChoice),
        help="images to score: those of a split, as a run or else the data names it (default: val if known, else all)",
    )
    add_reading_options(parser, positive=False)
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
    """The data set, read as a run was when there is one, its classes being those of the models."""
    labels, asked = models[0].labels, reading_asked(arguments)
    run = next((model for model in models if model.split is not None), None)
    if run is not None and run.split is not None:
        read = recorded_reading(Path(run.name)) or Reading()
        rule = next((rule for rule in RULES if rule == run.split.naming), None)
        asked = replace(asked, naming=asked.naming or rule)
        if arguments.data.is_file():
            asked = replace(asked, columns=asked.columns or read.columns, root=asked.root or read.root)
    dataset = read_and_tell(arguments.data, replace(asked, positive=labels[1]))
    if tuple(map(class_key, dataset.labels)) != tuple(map(class_key, labels)):
        raise InputError(f"{arguments.data} holds the classes {dataset.labels}, the models tell {labels} apart")
    if dataset.unreadable:
        raise InputError(f"{arguments.data}: {unreadable_in_words(dataset.unreadable)}; repair or remove them")
    return dataset


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
