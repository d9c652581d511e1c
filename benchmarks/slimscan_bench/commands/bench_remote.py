"""`slimscan bench --plan ssh HOST`: measure on another machine."""

import argparse
import shlex
from typing import TYPE_CHECKING

from slimscan_bench.commands.rounds import note
from slimscan_edge.errors import InputError

if TYPE_CHECKING:
    from slimscan_bench.benchmark import Benchmark

_COUNTS = ("threads", "processes", "repeats", "warmup", "cold_starts")
_SWITCHES = ("check", "scaling", "operators", "instructions", "allow_failed")
_NOT_THERE = ("compare", "training", "pairs", "clock", "across_environments", "recipe", "set", "steps")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of measuring elsewhere."""
    group = parser.add_argument_group(
        "on another machine",
        "The bundle and the images are copied over SSH into a temporary folder, slimscan bench that is installed there "
        "runs on them, its record is fetched and reported here, and the folder is removed.",
    )
    group.add_argument("--plan", nargs=2, metavar=("ssh", "HOST"), help="measure on HOST (or USER@HOST)")
    group.add_argument("--remote-program", metavar="PATH", help="slimscan as it is called there (default: slimscan)")
    group.add_argument("--ssh", metavar="COMMAND", help="the SSH client with its options (default: ssh)")


def measure_elsewhere(arguments: argparse.Namespace) -> "tuple[Benchmark, int]":
    """Measure on another machine; the record, and the exit code that the command ended with there.

    Raises:
        InputError: Options do not go together, or the command was refused there.
        MachineError: The machine cannot be reached, or lacks what the measurement needs.
    """
    from slimscan_bench.remote import Remote, measure_there
    from slimscan_bench.speed_comparison import benchmark_of
    from slimscan_edge.files import image_files
    from slimscan_edge.locate import locate_bundle

    how, host = arguments.plan
    if how != "ssh":
        raise InputError(f"got --plan {how}, expected --plan ssh HOST")
    foreign = [name for name in _NOT_THERE if getattr(arguments, name)]
    if foreign:
        raise InputError(f"--{foreign[0].replace('_', '-')} does not go with --plan; leave it out")
    remote = Remote(
        host=host,
        ssh=tuple(shlex.split(arguments.ssh or "ssh")),
        program=arguments.remote_program or "slimscan",
    )
    bundle = locate_bundle(arguments.bundle).path
    answer = measure_there(remote, bundle, image_files(arguments.images, note=note), _options(arguments))
    return benchmark_of(answer.table, where=host), answer.exit_code


def _options(arguments: argparse.Namespace) -> list[str]:
    given = [(name, getattr(arguments, name)) for name in _COUNTS]
    words = [word for name, value in given if value is not None for word in (_option(name), str(value))]
    words += [word for way in arguments.against for word in ("--against", way)]
    return words + [_option(name) for name in _SWITCHES if getattr(arguments, name)]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
