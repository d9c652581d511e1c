"""Being stopped: by Ctrl-C, by another process, by the end of a session."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_stopped_by = 0


def stopped_by() -> int:
    """The signal that asked this process to end; 0 if none did."""
    return _stopped_by


def run_until_stopped(command: Callable[[], int]) -> int:
    """Run the one command of this process; it unwinds when it is stopped, and the process ends by that signal.

    To be called in the main thread, as the last thing that the process does. A second signal ends it at once.

    Args:
        command: Returns its exit code. It meets a signal as a `KeyboardInterrupt`.
    """
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
    sys.unraisablehook = _unless_stopped
    code = 0
    try:
        for number in numbers:
            signal.signal(number, _stop)
        code = command()
    except KeyboardInterrupt:  # before it had begun, or after it had ended
        code = 128 + _stopped_by
    finally:
        for number in numbers:
            with contextlib.suppress(KeyboardInterrupt):
                signal.signal(number, signal.SIG_DFL)
        if _stopped_by:
            os.kill(os.getpid(), _stopped_by)
    return code


def _stop(number: int, _: FrameType | None) -> None:
    global _stopped_by
    signal.signal(number, signal.SIG_DFL)
    _stopped_by = number
    raise KeyboardInterrupt


def _unless_stopped(unraisable: Any) -> None:
    """Say what could not be raised, but for an interruption, which is remembered."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
