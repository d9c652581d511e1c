"""`slimscan bench`: latency of every stage, cold start and memory on this machine; with --training, training speed."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from slimscan_bench.commands import bench_compare, bench_remote
from slimscan_bench.commands.rounds import counted, note
from slimscan_edge.commands.bundle_options import add_bundle_options, load_classifier, whole_number
from slimscan_edge.errors import (
    EXIT_DONE,
    EXIT_GATE_FAILED,
    EXIT_GATE_INCONCLUSIVE,
    InputError,
    MissingExtraError,
)

if TYPE_CHECKING:
    from slimscan_bench.benchmark import Benchmark
    from slimscan_bench.bounds import Held

_DETAILS = """\
Each image is read, resized, run and decided on, again and again in turn, in several processes one after the other;
every time is kept and its median is given with an interval. Then `slimscan predict` is started afresh several times, in
turn with a bare script that only imports NumPy, Pillow and the interpreter and runs the same model. Without images
three drawn chests of typical X-ray sizes are used: times hold for such sizes, answers mean nothing. --against times
another way in turn with ours on every image, on the same loaded network, and counts the same decisions: plain (decode
in full, convert, resize, normalise in float, quantise, invoke) or floor (decode reduced, resize, invoke, nothing else).
--check holds the figures to the project's bounds: each is kept to (PASS), missed (FAIL, exit code 1) or too uncertain
to tell (INCONCLUSIVE, exit code 3). --operators times the network cut short after each operator, which XNNPACK does not
tell. --instructions counts what valgrind sees a processor without AVX-512 do for an image of median size, which comes
out the same on a busy machine. A run in which the board throttled, its frequency policy changed, or one round in ten
took a quarter longer than the median round is marked INVALID, and the exit code is 3. With --training (needs the train
extra) no bundle is run: epochs of the bare training step, of the input pipeline, of both and of plain Keras are timed
in turn. Close other programs first.
"""
_ANSWERS_ONLY = (
    "images",
    "bundle",
    "threads",
    "allow_failed",
    "processes",
    "cold_starts",
    "against",
    "check",
    "scaling",
    "operators",
    "instructions",
)
_ANSWERS_COUNTS = {"processes": 5, "repeats": 10, "warmup": 3, "cold_starts": 10}
_WAYS = ("plain", "floor")
_TRAINING_ONLY = ("recipe", "set", "steps")
_ONLY_WITH = {"--compare": ("pairs", "clock", "across_environments"), "--plan": ("remote_program", "ssh")}
_TRAINING_COUNTS = {"repeats": 5, "warmup": 1, "steps": 50}


class _Record(Protocol):
    """What was measured."""

    def to_table(self) -> dict[str, Any]: ...

    def to_lines(self) -> list[str]: ...


class _Measurement(_Record, Protocol):
    """A record that may be invalid."""

    @property
    def invalid(self) -> tuple[str, ...]: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = f"{parser.description}. {_DETAILS}"
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files, or folders of them")
    add_bundle_options(parser)
    parser.add_argument(
        "--processes", type=whole_number(1), metavar="N", help="processes, one after the other (default: 5)"
    )
    parser.add_argument(
        "--repeats", type=whole_number(1), metavar="N", help="rounds in each that are kept (default: 10; of training 5)"
    )
    parser.add_argument(
        "--warmup",
        type=whole_number(0),
        metavar="N",
        help="rounds before in each, not kept (default: 3; of training 1)",
    )
    parser.add_argument(
        "--cold-starts", type=whole_number(0), metavar="N", help="fresh processes (default: 10; 0: none)"
    )
    parser.add_argument(
        "--against", action="append", default=[], choices=_WAYS, help="time another way in turn; may be given twice"
    )
    parser.add_argument("--check", action="store_true", help="against both, and hold all figures to the bounds")
    parser.add_argument("--instructions", action="store_true", help="also count instructions (needs valgrind)")
    parser.add_argument("--operators", action="store_true", help="also what each operator of the network takes")
    parser.add_argument("--scaling", action="store_true", help="also with each number of threads, and files in a batch")
    training = parser.add_argument_group("speed of training")
    training.add_argument("--training", action="store_true", help="measure it, and nothing else")
    training.add_argument("--recipe", metavar="R", help="recipe, as slimscan train takes it")
    training.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change the recipe")
    training.add_argument(
        "--steps", type=whole_number(1), metavar="N", help="steps in each epoch that is timed (default: 50)"
    )
    bench_compare.add_arguments(parser)
    bench_remote.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the whole record as one JSON line instead")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the whole record into FILE (benchmark.json)")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the record if a file is given, and print a table or a JSON line.

    Returns:
        Of a comparison, 1 when slower and 3 when that cannot be told. Of a measurement, 3 when it is invalid, whatever
        it found; else 1 or 3 when a check fails or cannot tell.
    """
    if arguments.plan:
        there, code = bench_remote.measure_elsewhere(arguments)
        _report(there, arguments)
        return code
    if arguments.compare:
        comparison = bench_compare.compare(arguments, progress=counted)
        _report(comparison, arguments)
        return comparison.exit_code
    _settle(arguments)
    if arguments.training:
        training = _measure_training(arguments)
        _report(training, arguments)
        return _judged(training.invalid, EXIT_DONE)
    record = _measure_answers(arguments)
    _report(record, arguments)
    return _judged(record.invalid, _checked(record.bounds) if arguments.check else EXIT_DONE)


def _judged(invalid: Sequence[str], code: int) -> int:
    """Name every reason why the figures are worth nothing, and return the exit code."""
    for reason in invalid:
        print(f"slimscan bench: INVALID: {reason}", file=sys.stderr)
    return EXIT_GATE_INCONCLUSIVE if invalid else code


def _report(record: _Record, arguments: argparse.Namespace) -> None:
    from slimscan_edge.atomic import write_atomically
    from slimscan_edge.records import to_json

    table = record.to_table()
    try:  # written before it is printed: nobody may be reading, and minutes of measuring would be lost
        if arguments.out:
            write_atomically(arguments.out, (to_json(table, indent=1, allow_nan=True) + "\n").encode())
            print(f"record: {arguments.out}", file=sys.stderr)
    finally:
        print(to_json(table, allow_nan=True) if arguments.json else "\n".join(record.to_lines()))


def _checked(bounds: "Sequence[Held]") -> int:
    """Name every bound that was not kept to, and return the exit code."""
    for held in bounds:
        if held.excess:
            print(f"slimscan bench: {held.verdict}: {held.excess}", file=sys.stderr)
    verdicts = {held.verdict for held in bounds}
    if "FAIL" in verdicts:
        return EXIT_GATE_FAILED
    return EXIT_GATE_INCONCLUSIVE if "INCONCLUSIVE" in verdicts else EXIT_DONE


def _settle(arguments: argparse.Namespace) -> None:
    """Refuse options of the other measurement, and fill in the defaults of this one.

    Raises:
        InputError: An option does not go with the measurement.
    """
    for partner, names in _ONLY_WITH.items():
        if alone := [name for name in names if getattr(arguments, name)]:
            raise InputError(f"--{alone[0].replace('_', '-')} goes only with {partner}; leave it out")
    foreign = [
        name
        for name in (_ANSWERS_ONLY if arguments.training else _TRAINING_ONLY)
        if (given := getattr(arguments, name)) not in (None, []) and given is not False
    ]
    if foreign:
        option = "IMAGE" if foreign[0] == "images" else f"--{foreign[0].replace('_', '-')}"
        raise InputError(f"{option} goes only {'without' if arguments.training else 'with'} --training; leave it out")
    if arguments.check and arguments.cold_starts == 0:
        raise InputError("--check holds cold starts to a bound too; leave --cold-starts 0 out")
    arguments.against = [way for way in _WAYS if way in arguments.against or arguments.check]
    for name, count in (_TRAINING_COUNTS if arguments.training else _ANSWERS_COUNTS).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, count)


def _measure_training(arguments: argparse.Namespace) -> _Measurement:
    try:
        # By name, as the command line loads commands: nothing here leads a device to a training package.
        speed = import_module("slimscan_bench.training_speed")
        record: _Measurement = speed.measure_training_speed(
            recipe=arguments.recipe,
            changes=arguments.set,
            steps=arguments.steps,
            warmup=arguments.warmup,
            repeats=arguments.repeats,
            progress=counted("rounds of training", arguments.warmup + arguments.repeats),
        )
    except ModuleNotFoundError as exc:
        raise MissingExtraError("bench --training", "train", exc.name or str(exc)) from exc
    return record


def _measure_answers(arguments: argparse.Namespace) -> "Benchmark":
    from slimscan_bench.measuring import Plan, measure
    from slimscan_bench.typical_images import write_typical_images
    from slimscan_edge.files import image_files
    from slimscan_edge.locate import locate_bundle

    given = image_files(arguments.images, note=note)
    classifier = load_classifier(arguments)
    plan = Plan(
        command=_command(arguments, classifier.interpreter.threads),
        bundle_path=locate_bundle(arguments.bundle).path,
        synthetic=not given,
        processes=arguments.processes,
        warmup=arguments.warmup,
        repeats=arguments.repeats,
        against=tuple(arguments.against),
        scaling=arguments.scaling,
        operators=arguments.operators,
        instructions=arguments.instructions,
        cold_starts=arguments.cold_starts,
    )
    with nullcontext() if given else tempfile.TemporaryDirectory(prefix="slimscan-bench-") as folder:
        paths = write_typical_images(Path(folder)) if folder else given
        return measure(classifier, paths, plan, progress=counted)


def _command(arguments: argparse.Namespace, threads: int) -> str:
    """The command line that measures the same again: what was left to defaults is spelt out."""
    words = ["slimscan", "bench", *map(str, arguments.images)]
    words += ["--bundle", str(arguments.bundle)] if arguments.bundle else []
    words += ["--threads", str(threads), *(["--allow-failed"] if arguments.allow_failed else [])]
    for name in ("processes", "repeats", "warmup", "cold_starts"):
        words += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    words += [word for way in arguments.against for word in ("--against", way)]
    words += [f"--{name}" for name in ("check", "scaling", "operators", "instructions") if getattr(arguments, name)]
    return shlex.join(words)
