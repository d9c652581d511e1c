"""A fixed piece of work, done between answers: how fast the processor was in that very moment.

Two runs on one machine minutes apart differ by what else it did meanwhile. Their answers over this work, which is the
same in both, differ far less. It is sorting and elementwise arithmetic by NumPy in one thread, of about a millisecond,
on 96 KB, so that it leaves most of what an answer needs in the caches.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

_NUMBERS = 12_000
_PASSES = 12


def spin() -> float:
    """Do the work once; what it returns is always the same and of no use."""
    numbers = _numbers()
    total = 0.0
    for _ in range(_PASSES):
        total += float(np.sort(np.tanh(numbers))[_NUMBERS // 2])
    return total


@cache
def _numbers() -> NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal(_NUMBERS)
