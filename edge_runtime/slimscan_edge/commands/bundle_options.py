"""The options of every command that runs a bundle: which one, on how many threads, and whether it may have failed."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from slimscan_edge.cores import MAX_THREADS

if TYPE_CHECKING:
    from slimscan_edge.classifier import Classifier


def add_bundle_options(parser: argparse.ArgumentParser) -> None:
    """Add `--bundle`, `--threads` and `--allow-failed`."""
    add_bundle_option(parser)
    parser.add_argument(
        "--threads",
        type=whole_number(1, most=MAX_THREADS),
        metavar="N",
        help="threads for one inference (default: all cores but one, up to four)",
    )
    parser.add_argument(
        "--allow-failed", action="store_true", help="run a bundle even though it did not pass its gates"
    )


def add_bundle_option(parser: argparse.ArgumentParser) -> None:
    """Add `--bundle` alone."""
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="B",
        help="a .slimscan file (default: the reference bundle shipped with slimscan)",
    )


def load_classifier(arguments: argparse.Namespace) -> "Classifier":
    """Load the bundle that the options ask for, and say on stderr which it is.

    Raises:
        BundleError: There is none, it is damaged, or its gates did not pass and that was not allowed.
        InterpreterError: There is no interpreter, or it refuses the model.
    """
    from slimscan_edge.classifier import Classifier
    from slimscan_edge.locate import locate_bundle
    from slimscan_edge.notices import native_notices_dropped

    located = locate_bundle(arguments.bundle)
    with native_notices_dropped():
        classifier = Classifier.load(located.path, threads=arguments.threads, allow_failed=arguments.allow_failed)
    manifest = classifier.manifest
    warning = "" if manifest.verdict == "PASS" else f"; WARNING: its gates say {manifest.verdict}"
    positive = f"{manifest.labels[1]} is the positive class"
    print(f"bundle {manifest.bundle_id}, {located.chosen}; {positive}{warning}", file=sys.stderr)
    return classifier


def whole_number(least: int, most: int = 10**9) -> Callable[[str], int]:
    """A type of argument: a whole number from the least one to the most."""
    bounds = f"from {least}" + (f" to {most}" if most < 10**9 else "")

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number {bounds}")
        return int(text)

    return parse
