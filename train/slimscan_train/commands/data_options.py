"""The options of every command that reads a data set: how it is read, and what is said of it."""

import argparse
import dataclasses
import sys
from pathlib import Path

from slimscan_edge.files import printable_path
from slimscan_train.dataset import Dataset, Reading, read_dataset
from slimscan_train.naming import RULES
from slimscan_train.sources.tables import parse_columns

DATA_HELP = "folder of [SPLIT/]CLASS/[PATIENT/]image, or a CSV of path, label, patient, split"


def add_reading_options(parser: argparse.ArgumentParser, *, positive: bool = True) -> None:
    """Add `--naming`, `--columns`, `--root` and, unless the command knows it otherwise, `--positive`."""
    parser.add_argument("--naming", choices=RULES, help="how names tell patients (default: recognised, and said)")
    if positive:
        parser.add_argument(
            "--positive", metavar="CLASS", help="the positive class (default: the one not named normal, healthy, ...)"
        )
    parser.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="columns of a CSV that are called otherwise: path=filename,label=class",
    )
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="what the paths in a CSV are relative to (default: its folder)"
    )


def reading_asked(arguments: argparse.Namespace) -> Reading:
    """What the options ask for.

    Raises:
        InputError: `--columns` is not understood.
    """
    return Reading(
        naming=arguments.naming,
        positive=getattr(arguments, "positive", None),
        columns=tuple(parse_columns(arguments.columns).items()),
        root=arguments.root.resolve() if arguments.root else None,
    )


def read_and_tell(source: Path, reading: Reading) -> Dataset:
    """Read a data set, and say on stderr what was read: which class is positive, in the first line.

    Raises:
        InputError: As for `read_dataset`.
    """
    options = {field.name: getattr(reading, field.name) for field in dataclasses.fields(Reading)}
    dataset = read_dataset(source, **{**options, "columns": dict(reading.columns)})
    for line in (printable_path(f"{source}: {dataset.describe()}"), *dataset.to_lines()):
        print(line, file=sys.stderr, flush=True)
    return dataset
