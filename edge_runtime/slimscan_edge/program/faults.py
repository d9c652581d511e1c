"""One line and an exit code for whatever ends a command."""

import contextlib
import errno
import os
import sys

from slimscan_edge.errors import EXIT_FAULT, EXIT_MACHINE, SlimscanError

TRACEBACK = "SLIMSCAN_TRACEBACK"
"""A variable of the environment: when it is set, the traceback of a fault is printed too."""
LEAST_DATA_BYTES = 96 * 2**20
"""What a process must be allowed to allocate: with less OpenBLAS ends the process by itself, and with exit code 1."""

_OF_THE_MACHINE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ENOMEM", "EAGAIN", "EMFILE", "ENFILE")
    if hasattr(errno, name)
}
_NO_TEMPORARY_FOLDER = "No usable temporary directory"
_NO_THREAD = "can't start new thread"
_LISTED = "\n  "


def explain(exc: Exception) -> tuple[str, int]:
    """What to say of an exception, and the exit code; in one line, unless an error of ours lists things below it."""
    if isinstance(exc, SlimscanError):
        return _LISTED.join(map(one_line, str(exc).split(_LISTED))), exc.exit_code
    if lacking := _lacking(exc):
        return one_line(lacking), EXIT_MACHINE
    return (
        f"this is a fault of slimscan: {type(exc).__name__} at {_place(exc)}"
        f"{f' ({one_line(str(exc))[:200]})' if str(exc) else ''}; please report it to where you have slimscan from, "
        f"with this line and what {TRACEBACK}=1 makes it print",
        EXIT_FAULT,
    )


def show_traceback(exc: Exception) -> None:
    """Print the traceback of a fault if the environment asks for it."""
    if os.environ.get(TRACEBACK):
        import traceback  # not at import: it costs a cold start several milliseconds

        traceback.print_exception(exc, file=sys.stderr)


def one_line(text: str) -> str:
    """Text with all that does not print escaped: a name may be of any bytes, line ends and terminal codes too."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def allowed_data_bytes() -> int | None:
    """How much this process may allocate, by RLIMIT_DATA; None for any amount."""
    with contextlib.suppress(ImportError):  # not on every system
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        return None if limit == resource.RLIM_INFINITY else limit
    return None


def _place(exc: Exception) -> str:
    """File and line that an exception was raised at."""
    at = exc.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{os.path.basename(at.tb_frame.f_code.co_filename)}:{at.tb_lineno}" if at else "an unknown place"


def _lacking(exc: Exception) -> str:
    """What of the machine an exception misses; empty if that is not what it is about."""
    if isinstance(exc, MemoryError):
        return "needs more memory than this process may have; end other programs, or raise its limit (ulimit -d, -v)"
    if isinstance(exc, ImportError):
        return f"{exc.name or 'a package'} does not load ({exc}); run: pip install --force-reinstall slimscan"
    if isinstance(exc, RuntimeError) and _NO_THREAD in str(exc):
        return "no thread can be started; end other programs, or raise the limit (ulimit -u)"
    if isinstance(exc, OSError) and (exc.errno in _OF_THE_MACHINE or _NO_TEMPORARY_FOLDER in str(exc)):
        place = f"{os.fsdecode(exc.filename)}: " if isinstance(exc.filename, str | bytes) else ""
        return f"{place}{exc.strerror or exc}; make room, or raise the limits of this process"
    return ""
