"""The `slimscan` command: a plain table of commands, each imported only when it is run.

A command is a module with two functions: `add_arguments(parser)` and `run(arguments) -> exit code`.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Never

from slimscan_edge import __version__
from slimscan_edge.errors import EXIT_BAD_INPUT, EXIT_FAULT, EXIT_MACHINE, MachineError, MissingExtraError
from slimscan_edge.program.faults import LEAST_DATA_BYTES, allowed_data_bytes, explain, one_line, show_traceback
from slimscan_edge.program.signals import run_until_stopped, stopped_by
from slimscan_edge.program.streams import OutputLostError, ReaderGoneError, discard, safe_streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Where a command lives, what it says of itself, and the extra that brings its packages ("" for none)."""

    module: str
    summary: str
    extra: str = ""


COMMANDS = {
    "demo": Command(
        module="slimscan_export.commands.demo", summary="the whole chain on images it makes itself", extra="all"
    ),
    "audit": Command(
        module="slimscan_train.commands.audit", summary="look a data folder over before training", extra="train"
    ),
    "train": Command(module="slimscan_train.commands.train", summary="train a model on a data folder", extra="train"),
    "export": Command(
        module="slimscan_export.commands.export", summary="compress, gate and bundle a trained model", extra="export"
    ),
    "compare": Command(
        module="slimscan_bench.commands.compare", summary="two models on the same images, paired", extra="bench"
    ),
    "bench": Command(module="slimscan_bench.commands.bench", summary="latency, cold start and memory here"),
    "peers": Command(
        module="slimscan_bench.commands.peers", summary="slimscan beside other runtimes, in one run", extra="bench"
    ),
    "report": Command(
        module="slimscan_bench.commands.report",
        summary="the page of a benchmark, here or from a device",
        extra="bench",
    ),
    "predict": Command(module="slimscan_edge.commands.predict", summary="answer for images"),
    "doctor": Command(module="slimscan_edge.commands.doctor", summary="is this machine ready, what is missing"),
}
BLAS_THREADS = "OPENBLAS_NUM_THREADS"
"""What tells NumPy's linear algebra how many threads to start when it is loaded; one for each core if it is not set."""
_EXIT_CODES = (
    "exit codes: 0 done or gate passed, 1 gate failed, 2 bad usage or input, 3 gate inconclusive, "
    "4 this machine lacks something, 70 fault of slimscan"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; whatever ends it is told in one line on stderr.

    Args:
        argv: The words after `slimscan`. When None those of this process, which is then the command's own: a signal
            that stops the command ends the process too.
    """
    if argv is None:
        return run_until_stopped(lambda: _main(sys.argv[1:]))
    return _main(list(argv))


def _main(words: list[str]) -> int:
    with safe_streams():
        if sys.stdout is None:
            print("slimscan: standard output is closed; send it to a file or to /dev/null", file=sys.stderr)
            return EXIT_BAD_INPUT
        try:
            try:
                return _answer(words)
            finally:
                sys.stdout.flush()  # here, where it is looked after that nothing can be said there any more
        except ReaderGoneError:  # `| head`
            code = EXIT_BAD_INPUT
        except OutputLostError as exc:
            print(f"slimscan: {exc.strerror}: what was answered could not all be written; make room", file=sys.stderr)
            code = EXIT_MACHINE
        discard(sys.stdout)
        return code


def _answer(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else EXIT_BAD_INPUT
    if words[0] == "--version":
        print(f"slimscan {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        print(f"slimscan: unknown command {name!r}; known are {', '.join(COMMANDS)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        return _run(name, words[1:])
    except (ReaderGoneError, OutputLostError):
        raise
    except KeyboardInterrupt:
        pass
    except Exception as exc:
        if not stopped_by():  # native code makes another exception of an interruption
            said, code = explain(exc)
            print(f"slimscan {name}: {said}", file=sys.stderr)
            if code == EXIT_FAULT:
                show_traceback(exc)
            return code
    print(f"slimscan {name}: stopped", file=sys.stderr)
    return 128 + (stopped_by() or signal.SIGINT)


class _Parser(argparse.ArgumentParser):
    """Tells of a wrong word in one line, whatever the word is made of."""

    def error(self, message: str) -> Never:
        super().error(one_line(message))


def _run(name: str, words: list[str]) -> int:
    command = COMMANDS[name]
    parser = _Parser(prog=f"slimscan {name}", description=command.summary, epilog=_EXIT_CODES)
    allowed = allowed_data_bytes()
    if allowed is not None and allowed < LEAST_DATA_BYTES:
        raise MachineError(
            f"this process may allocate {allowed / 2**20:.0f} MiB, and needs {LEAST_DATA_BYTES / 2**20:.0f}; "
            "raise the limit (ulimit -d)"
        )
    if not command.extra:  # on a device there is no work for such threads, and starting them costs a tenth of the start
        os.environ.setdefault(BLAS_THREADS, "1")
    try:
        module = import_module(command.module)
        module.add_arguments(parser)
        arguments = parser.parse_args(words)
        code: int = module.run(arguments)
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").split(".")[0]
        if missing in sys.stdlib_module_names:
            raise MachineError(f"this Python lacks {missing}, a part of itself; install the whole of it") from exc
        if not command.extra:
            raise MachineError(f"{missing} is not installed; run: pip install --force-reinstall slimscan") from exc
        raise MissingExtraError(name, command.extra, missing) from exc
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: slimscan COMMAND [...]   (slimscan COMMAND --help tells more)",
            "",
            "From labelled X-rays to a small, proven model on a low-cost device. Not a medical device.",
            "",
            *lines,
            "",
            _EXIT_CODES,
        ]
    )
