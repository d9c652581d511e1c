"""Loading TensorFlow: only where it can run, and without its log lines for those who did not ask for them.

Some of them are written by native code before any logging setting is read, so the file descriptor itself is held back.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slimscan_edge.errors import MachineError
from slimscan_edge.notices import stderr_into

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux lists the features of an x86 processor, in lines that start with `flags`."""


@contextmanager
def held_back_stderr() -> Iterator[None]:
    """Hold back what is written to standard error, by native code too; it is shown when the block raises or aborts."""
    with tempfile.TemporaryFile() as held, stderr_into(held, show_failure=True):
        yield


def require_avx(cpuinfo: Path | None = None) -> None:
    """Refuse a processor that TensorFlow's wheels do not run on: without AVX, its import aborts the process.

    Where the processor's features are not told, or it is no x86 one, nothing is refused.

    Args:
        cpuinfo: Read instead of `CPUINFO`.

    Raises:
        MachineError: The processor has no AVX, or the machine does not let this system use it.
    """
    try:
        lines = (cpuinfo or CPUINFO).read_text(errors="replace").splitlines()
    except OSError:
        return
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)
    if flags is not None and "avx" not in flags:
        raise MachineError(
            "this processor has no AVX, which TensorFlow needs (a virtual machine may hide it: give it the host's "
            "processor); train and export on another machine, this one can predict"
        )


def load_tensorflow() -> None:
    """Load TensorFlow and start its runtime without its greeting; a command that needs it calls this first.

    Later it speaks of what went wrong only, not of what it started, unless `TF_CPP_MIN_LOG_LEVEL` is set to 0.

    TensorFlow uses oneDNN by itself only on processors with AVX-512 VNNI or newer; elsewhere its own kernels take 2.4
    times the processor's time for a training step (AMD Milan, AVX2). So it is asked for, unless
    `TF_ENABLE_ONEDNN_OPTS` is set.

    Raises:
        MachineError: The processor has no AVX.
    """
    require_avx()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with held_back_stderr():
        import tensorflow as tf

        tf.constant(0)
