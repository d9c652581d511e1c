"""Standard output and error as a command finds them: closed, full, without a reader, or a terminal that takes codes."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x061C, *range(0x200E, 0x2010), *range(0x2028, 0x202F))
_ESCAPED = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (*_CONTROLS, *range(0x2066, 0x206A))
    if chr(code) not in "\t\n"
}
"""What a terminal takes for a command or for a change of direction, and how it is shown instead."""


class OutputLostError(OSError):
    """What was answered cannot all be written to standard output."""


class ReaderGoneError(BrokenPipeError):
    """Nobody reads standard output any more."""


class SafeStream:
    """A text stream that passes no terminal code on, and in all else is the stream it is made of."""

    def __init__(self, stream: TextIO, *, forgiving: bool) -> None:
        """Wrap a stream.

        Args:
            stream: What is written to.
            forgiving: Nothing is raised when it cannot be written to, as befits notes beside the answer.
        """
        self.below = stream
        """The stream itself."""
        self._forgiving = forgiving

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)

    def write(self, text: str) -> int:
        """Write a text; a carriage return is one only where it begins it, as in a count that goes up."""
        begin = text[:1] if text[:1] == "\r" else ""
        with self._failing():
            self.below.write(begin + text[len(begin) :].translate(_ESCAPED))
        return len(text)

    def flush(self) -> None:
        """Write what is still held back."""
        with self._failing():
            self.below.flush()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            if self._forgiving:
                discard(self.below)
            elif isinstance(exc, BrokenPipeError):
                raise ReaderGoneError(exc.errno, exc.strerror) from exc
            else:
                raise OutputLostError(exc.errno, exc.strerror) from exc


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Have `sys.stdout` and `sys.stderr` be safe to write to; `sys.stdout` stays None where it is closed."""
    _occupy_closed_descriptors()
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be of any bytes
    if sys.stdout is not None and not isinstance(sys.stdout, SafeStream):
        sys.stdout = cast(TextIO, SafeStream(sys.stdout, forgiving=False))
    if not isinstance(sys.stderr, SafeStream):  # of None `print` would make standard output
        sys.stderr = cast(TextIO, SafeStream(sys.stderr or io.StringIO(), forgiving=True))
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def for_drawing(stream: TextIO) -> TextIO:
    """What a library that draws on a terminal writes to: the stream below a safe one."""
    return stream.below if isinstance(stream, SafeStream) else stream


def discard(stream: TextIO) -> None:
    """Let all that a stream still holds back, and all that follows, go nowhere, lest the flush at exit complain."""
    with contextlib.suppress(OSError, ValueError):  # it may have no descriptor
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _occupy_closed_descriptors() -> None:
    """Open closed ones of the first three to nowhere: the next file that is opened would take their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
