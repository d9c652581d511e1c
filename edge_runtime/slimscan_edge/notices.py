"""Native libraries write to the screen past Python: what of that a clinic worker need not see."""

import contextlib
import os
import sys
from collections.abc import Iterator

_NOTICE = b"INFO: "


@contextlib.contextmanager
def native_notices_dropped() -> Iterator[None]:
    """Keep lines that begin with `INFO: ` off stderr; all others follow at the end, after an exception too.

    For a command that has not yet started a thread: whatever writes to stderr meanwhile, in any thread, waits, and
    what native code says before it crashes the process is lost. Without Linux, or without a stderr, nothing is done.
    """
    if sys.stderr is None or not hasattr(os, "memfd_create"):
        yield
        return
    with contextlib.ExitStack() as cleanup:
        screen = os.dup(2)
        cleanup.callback(os.close, screen)
        kept = os.memfd_create("stderr")
        cleanup.callback(os.close, kept)
        sys.stderr.flush()
        os.dup2(kept, 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            _pass_on(kept)


def _pass_on(kept: int) -> None:
    """Write what is no notice to stderr."""
    with open(kept, "rb", closefd=False) as file:
        file.seek(0)
        lines = [line for line in file if not line.startswith(_NOTICE)]
    with contextlib.suppress(OSError), open(2, "wb", closefd=False) as screen:  # nobody may listen any more
        screen.writelines(lines)
