"""`slimscan bench --compare OLD NEW`: faster, slower or cannot tell."""

import argparse
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from slimscan_bench.commands.rounds import note
from slimscan_edge.errors import InputError

if TYPE_CHECKING:
    from slimscan_bench.speed_comparison import SpeedComparison

PAIRS, REPEATS, WARMUP = 8, 10, 2
_RECORD = ".json"
_NOT_HERE = (
    *("training", "check", "scaling", "operators", "instructions", "against"),
    *("processes", "cold_starts", "allow_failed"),
    *("recipe", "set", "steps", "remote_program", "ssh"),
)
_NOT_OF_RECORDS = ("images", "bundle", "threads", "repeats", "warmup", "pairs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that go with `--compare`, and `--compare` itself."""
    group = parser.add_argument_group(
        "old against new",
        "OLD and NEW are two records of slimscan bench (.json); or two bundles, or two environments of Python with "
        "other builds of slimscan (folders with bin/python), which then answer in turn, so that what else the machine "
        "does falls on both alike. SLOWER (exit code 1) and FASTER are said only where the whole 95 % interval lies "
        "beyond a margin (in turn 3 %, two records 4 %, instructions, which decide where both records hold them, "
        "1 %); else CANNOT TELL, with exit code 0 if slower by the margin is ruled out and 3 if not.",
    )
    group.add_argument("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="compare, and nothing else")
    group.add_argument("--pairs", type=int, metavar="N", help=f"pairs of processes, 5 or more (default: {PAIRS})")
    group.add_argument("--clock", choices=("cpu", "wall"), help="which time decides (default: cpu, processors' time)")
    group.add_argument(
        "--across-environments",
        action="store_true",
        help="compare records of different machines or packages, and say so",
    )


def compare(
    arguments: argparse.Namespace, *, progress: Callable[[str, int], Callable[[int], None]]
) -> "SpeedComparison":
    """Read two records, or let two sides answer in turn.

    Args:
        arguments: Of `slimscan bench`, `--compare` among them.
        progress: Told what is counted and how far it is.

    Raises:
        InputError: Options do not go together, or what they name cannot be compared.
        InterpreterError: A side ended without an answer.
    """
    _refuse(arguments, _NOT_HERE, "with --compare")
    old, new = arguments.compare
    records = [path.suffix == _RECORD for path in (old, new)]
    if any(records) and not all(records):
        raise InputError(f"got {old} and {new}, one of them a record; give two records, or two bundles or environments")
    return _compare_records(arguments) if all(records) else _compare_in_turn(arguments, progress)


def _compare_records(arguments: argparse.Namespace) -> "SpeedComparison":
    from slimscan_bench.speed_comparison import compare_records, read_benchmark

    _refuse(arguments, _NOT_OF_RECORDS, "with two records, which are only read")
    old, new = map(read_benchmark, arguments.compare)
    return compare_records(old, new, clock=arguments.clock or "cpu", across=arguments.across_environments)


def _compare_in_turn(
    arguments: argparse.Namespace, progress: Callable[[str, int], Callable[[int], None]]
) -> "SpeedComparison":
    from slimscan_bench.benchmark import describe_image
    from slimscan_bench.environment import read_environment
    from slimscan_bench.regression import MIN_PAIRS
    from slimscan_bench.speed_comparison import compare_in_turn
    from slimscan_bench.turns import measure_in_turn, read_side
    from slimscan_bench.typical_images import write_typical_images
    from slimscan_edge.files import image_files
    from slimscan_edge.interpreter import default_threads

    _refuse(arguments, ("across_environments",), "with two records; sides in turn are on one machine")
    pairs = PAIRS if arguments.pairs is None else arguments.pairs
    if pairs < MIN_PAIRS:
        raise InputError(f"got --pairs {pairs}, expected {MIN_PAIRS} or more")
    old, new = (read_side(path, arguments.bundle) for path in arguments.compare)
    given = image_files(arguments.images, note=note)
    for path in given:
        describe_image(path)  # an unreadable one is refused here, not by a process of its own
    before = read_environment(interpreter="")
    with nullcontext() if given else tempfile.TemporaryDirectory(prefix="slimscan-bench-") as folder:
        turns = measure_in_turn(
            (old, new),
            write_typical_images(Path(folder)) if folder else given,
            threads=arguments.threads or default_threads(),
            pairs=pairs,
            warmup=WARMUP if arguments.warmup is None else arguments.warmup,
            repeats=REPEATS if arguments.repeats is None else arguments.repeats,
            progress=progress("pairs of processes", pairs),
        )
    after = read_environment(interpreter="")
    return compare_in_turn(turns, (old.name, new.name), before=before, after=after, clock=arguments.clock or "cpu")


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], where: str) -> None:
    given = [
        name for name in names if getattr(arguments, name) not in (None, []) and getattr(arguments, name) is not False
    ]
    if given:
        option = "IMAGE" if given[0] == "images" else f"--{given[0].replace('_', '-')}"
        raise InputError(f"{option} does not go {where}; leave it out")
