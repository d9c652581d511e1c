"""`slimscan audit DATA`: look a data folder over before training."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from slimscan_edge.errors import EXIT_BAD_INPUT, EXIT_DONE
from slimscan_edge.files import printable_path
from slimscan_train.audit import CHANCE, SHORTCUT_AUROC, STYLE, Association, Audit, Overlap, audit, observe
from slimscan_train.commands.data_options import DATA_HELP, add_reading_options, read_and_tell, reading_asked
from slimscan_train.dataset import Dataset, LabelledImage
from slimscan_train.split import read_split_images

SHOWN = 5
"""Examples that a line for people gives; --json gives all."""

_DETAILS = f"""\
Decodes every file as training would and tells, a line a check: files that cannot be read; exact copies, also under two
labels; near-duplicates under two patients' names; patients and copies that two splits share; and label shortcuts,
properties of the files (size, colour mode, brightness and so on) that by themselves tell the class with an AUROC
farther than {SHORTCUT_AUROC} from 0.5, or that only files of one class have (p below {CHANCE}). A shortcut is a note to
look into: some may be the disease itself. Nothing is changed, and notes do not change the exit code; it is 2 where a
file or a link could not even be opened.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = f"{parser.description}. {_DETAILS}"
    parser.add_argument("data", type=Path, help=DATA_HELP)
    add_reading_options(parser)
    parser.add_argument("--split", type=Path, metavar="FILE", help="look the splits of a split.json over as well")
    parser.add_argument("--json", action="store_true", help="print one JSON object with everything found instead")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; exit code 0 whatever it is, but 2 where a file could not even be opened."""
    warnings.filterwarnings("ignore", module="PIL")  # on damaged files; what matters in them comes as a reason
    split = read_split_images(arguments.split) if arguments.split else ()
    dataset = read_and_tell(arguments.data, reading_asked(arguments))
    observations, unreadable = observe(dataset, _show_progress)
    unopened = tuple(replace(bad, path=os.path.relpath(bad.path, dataset.root)) for bad in dataset.unreadable)
    found = audit(dataset, observations, (*unopened, *unreadable), split)
    code = EXIT_BAD_INPUT if dataset.unreadable else EXIT_DONE
    if arguments.json:
        print(json.dumps(_as_json(dataset, found)))
        return code
    lines = [*_count_lines(found), ""]
    notes = 0
    for name, detail in _checks(dataset, found, arguments.split):
        notes += bool(detail)
        lines.append(f"{'note' if detail else 'ok':5} {name:16} {detail or 'none'}")
    lines += ["", f"{notes} note{'' if notes == 1 else 's'} to look into" if notes else "nothing to look into"]
    print("\n".join(lines).encode("utf-8", "backslashreplace").decode())  # a file's name may be any bytes
    return code


def _count_lines(found: Audit) -> list[str]:
    rows = [("split", "class", "series", "images", "patients")]
    rows += [(row.split or "-", row.label, row.series, f"{row.images:,}", f"{row.patients:,}") for row in found.counts]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _checks(dataset: Dataset, found: Audit, split: Path | None) -> Iterator[tuple[str, str]]:
    """Each check's name with what it found in words, "" for nothing."""
    yield "unreadable", _listed(f"{len(found.unreadable)} files", [bad.reason for bad in found.unreadable])
    passed_over = [f"{one.path} ({one.kind})" for one in dataset.passed_over if one.kind != "hidden"]
    yield "passed over", _listed(f"{len(passed_over)} files and folders", passed_over)
    yield "exact copies", _groups("with the same bytes", found.exact_copies)
    yield "label conflicts", _groups("with the same bytes and two labels", found.label_conflicts, shown=None)
    yield "near-duplicates", _groups("that show one picture for different patients", found.near_duplicates)
    if any(image.split for image in dataset.images):
        yield "own splits", _listed("overlap", [_overlap(overlap) for overlap in found.overlaps])
    if split:
        yield "split file", _listed(f"{split}: overlap", [_overlap(overlap) for overlap in found.split_overlaps])
        changed = f"{len(found.split_changes)} images were added, removed or changed since {split}"
        yield "split file's age", _listed(changed, found.split_changes)
    for shortcut in found.shortcuts:
        yield "label shortcut", _shortcut(shortcut, dataset.labels)
    if not found.shortcuts:
        yield "label shortcuts", ""


def _groups(kind: str, groups: Sequence[Sequence[LabelledImage]], shown: int | None = SHOWN) -> str:
    files = sum(map(len, groups))
    patients = sum(len({image.patient for image in group}) > 1 for group in groups)
    head = f"{files} files {kind}, in {len(groups)} groups ({patients} of them of different patients)"
    return _listed(head, [" = ".join(image.path for image in group[:SHOWN]) for group in groups], shown)


def _listed(head: str, examples: Sequence[str], shown: int | None = SHOWN) -> str:
    """A count in words and the first examples, or all, each on a line of its own; "" when there are none."""
    if not examples:
        return ""
    rest = examples[shown:] if shown is not None else ()
    more = [f"and {len(rest)} more"] if rest else []
    lines = (printable_path(example) for example in [*examples[:shown], *more])
    return "".join([head, *(f"\n{'':23}{line}" for line in lines)])


def _overlap(overlap: Overlap) -> str:
    first = f" ({overlap.patients[0]} first)" if overlap.patients else ""
    shared = f"share {len(overlap.patients)} patients{first} and {len(overlap.copies)} exact copies"
    return f"{overlap.first} and {overlap.second} {shared}"


def _shortcut(found: Association, labels: tuple[str, str]) -> str:
    if found.is_category:
        typical = f"{found.negative:.1%} of {labels[0]}, {found.positive:.1%} of {labels[1]}"
    else:
        typical = f"median {found.negative:.4g} in {labels[0]}, {found.positive:.4g} in {labels[1]}"
    advice = "; draw against it (fit.balance, as the default recipe does)" if found.name == STYLE else ""
    return f"{found.name} goes with the class: AUROC {found.auroc:.3f} ({typical}){advice}"


def _as_json(dataset: Dataset, found: Audit) -> dict[str, Any]:
    groups = ("exact_copies", "label_conflicts", "near_duplicates")
    return {
        "data": str(dataset.root),
        "naming": dataset.naming,
        "labels": dataset.labels,
        "positive": dataset.labels[1],
        "notes": dataset.notes,
        "passed_over": [asdict(one) for one in dataset.passed_over],
        "images": len(dataset.images),
        "patients": len({image.patient for image in dataset.images}),
        **asdict(found),
        **{name: [[image.path for image in group] for group in getattr(found, name)] for name in groups},
        "associations": [{**asdict(row), "is_shortcut": row.is_shortcut} for row in found.associations],
    }


def _show_progress(done: int, total: int) -> None:
    """Count up on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{done:,} of {total:,}", end="" if done < total else "\n", file=sys.stderr, flush=True)
