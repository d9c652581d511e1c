"""How many processors there are to work with."""

import os

MAX_THREADS = 256
"""Of one inference: with 100,000 the interpreter crashes after its answer, and from 2^31 on it refuses the model."""


def usable_cores() -> int:
    """Processors that this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
