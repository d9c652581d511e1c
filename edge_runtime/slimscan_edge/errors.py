"""The one error tree of slimscan.

    SlimscanError
    ├── InputError              exit 2   an argument, a folder or a file cannot be used
    │   ├── ImageError                   a picture is unreadable or refused
    │   └── BundleError                  a bundle is damaged, unknown or not allowed to run
    └── MachineError            exit 4   this machine lacks something
        ├── MissingExtraError            an optional part of slimscan is not installed
        └── InterpreterError             no TFLite interpreter, or it computes wrongly

A message says what was got, what was expected and what to do. Whatever else ends a command is a fault of slimscan
itself, and its exit code `EXIT_FAULT`. A failed gate is not an error: it is a
result, and the command that ran it returns `EXIT_GATE_FAILED` or `EXIT_GATE_INCONCLUSIVE`.
"""

from typing import ClassVar

EXIT_DONE = 0
EXIT_GATE_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_GATE_INCONCLUSIVE = 3
EXIT_MACHINE = 4
EXIT_FAULT = 70
"""EX_SOFTWARE of sysexits.h; Python's own for a traceback would be taken for a failed gate."""


class SlimscanError(Exception):
    """Base of every error that slimscan raises on purpose."""

    exit_code: ClassVar[int] = EXIT_BAD_INPUT


class InputError(SlimscanError):
    """An argument, a folder or a file cannot be used as given."""


class ImageError(InputError):
    """A picture cannot be read, or is refused before it is read."""


class BundleError(InputError):
    """A bundle is damaged, of an unknown schema, or not allowed to run."""


class MachineError(SlimscanError):
    """This machine lacks what the command needs."""

    exit_code: ClassVar[int] = EXIT_MACHINE


class MissingExtraError(MachineError):
    """An optional part of slimscan is not installed."""

    def __init__(self, command: str, extra: str, missing_module: str) -> None:
        super().__init__(
            f"{command} needs the {extra!r} extra ({missing_module} is not installed); "
            f"run: pip install 'slimscan[{extra}]'"
        )


class InterpreterError(MachineError):
    """No TFLite interpreter can be had, it refused the model, or it computes wrongly."""
