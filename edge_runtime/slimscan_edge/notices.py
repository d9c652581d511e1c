"""Native libraries write to the screen past Python: what of that a reader need not see, and what nobody must miss.

What is kept off the screen goes to a process beside this one, for native code may end this one without a word to
Python, and then its last words are what matters.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import IO

_WITHOUT_NOTICES = ("sed", "-e", "/^INFO: /d")
_SHOW_UNLESS_DONE = ("sh", "-c", "read -r done || cat /dev/fd/3 >&2")


@contextlib.contextmanager
def native_notices_dropped() -> Iterator[None]:
    """Keep lines that begin with `INFO: ` off stderr; all others reach it before the block is left.

    Where no process can be started to filter them, all are shown.
    """
    started = _start(_WITHOUT_NOTICES, {1: 2})
    if started is None:
        yield
        return
    writing, process = started
    try:
        with _redirected(writing):
            os.close(writing)  # the filter's input is to end with the block
            yield
    finally:
        os.waitpid(process, 0)


@contextlib.contextmanager
def stderr_into(file: IO[bytes], *, show_failure: bool = False) -> Iterator[None]:
    """Have what is written to stderr, by native code too, go into a file; it is shown if this process ends meanwhile.

    Args:
        file: With a descriptor.
        show_failure: Show it also when the block raises; and change nothing where no process can be started for that.
    """
    started = _start(_SHOW_UNLESS_DONE, {3: file.fileno()})
    if started is None and show_failure:
        yield
        return
    is_done = not show_failure
    try:
        with _redirected(file.fileno()):
            yield
        is_done = True
    finally:
        if started:
            writing, process = started
            with contextlib.suppress(OSError):
                os.write(writing, b"done\n" if is_done else b"")
            os.close(writing)
            os.waitpid(process, 0)


@contextlib.contextmanager
def _redirected(descriptor: int) -> Iterator[None]:
    """Have stderr, below Python too, be what a descriptor is."""
    kept = os.dup(2)
    try:
        _flush()
        os.dup2(descriptor, 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(kept, 2)
    finally:
        os.close(kept)


def _start(words: tuple[str, ...], descriptors: Mapping[int, int]) -> tuple[int, int] | None:
    """Start a small program beside this one: its standard input's other end, and its id; None if that cannot be done.

    It is in a process group of its own, which Ctrl-C does not reach.
    """
    with contextlib.ExitStack() as cleanup, contextlib.suppress(OSError, AttributeError):  # posix_spawnp is POSIX's
        reading, writing = os.pipe()
        cleanup.callback(os.close, reading)
        unless_started = cleanup.enter_context(contextlib.ExitStack())
        unless_started.callback(os.close, writing)
        actions = [(os.POSIX_SPAWN_DUP2, reading, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in descriptors.items()]
        environment = {**os.environ, "LC_ALL": "C"}
        process = os.posix_spawnp(words[0], words, environment, file_actions=actions, setpgroup=0)
        unless_started.pop_all()
        return writing, process
    return None


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
