"""Keeping TensorFlow's own log lines from those who did not ask for them.

Some are written by native code before any logging setting is read, so the file descriptor itself is held back.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from slimscan_edge.notices import stderr_into


@contextmanager
def held_back_stderr() -> Iterator[None]:
    """Hold back what is written to standard error, by native code too; it is shown when the block raises or aborts."""
    with tempfile.TemporaryFile() as held, stderr_into(held, show_failure=True):
        yield


def load_tensorflow() -> None:
    """Load TensorFlow and start its runtime without its greeting; a command that needs it calls this first.

    Later it speaks of what went wrong only, not of what it started, unless `TF_CPP_MIN_LOG_LEVEL` is set to 0.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    with held_back_stderr():
        import tensorflow as tf

        tf.constant(0)
