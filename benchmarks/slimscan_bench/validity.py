"""Whether a measurement of time is worth anything, and whether two were taken under the same conditions.

A run is invalid when the board throttled, when the frequency policy was changed meanwhile, or when its rounds spread
too far. That is a result, not an error: the record is kept with the reasons, and the command ends with exit code 3.
"""

from collections.abc import Sequence

import numpy as np

from slimscan_bench.environment import Environment
from slimscan_bench.latency import Sample

SPREAD_AT_MOST = 1.25
"""90th percentile of the rounds' medians over their median.

A calm machine stays below 1.05; at 1.25 one round in ten takes a quarter longer, more than most differences that are
measured for. What shares the machine then decides the figures.
"""
MIN_ROUNDS_FOR_SPREAD = 10
"""Below, a 90th percentile of rounds is the slowest of them and tells nothing."""
# What may change from one minute to the next without making it another environment.
_STATE = ("frequencies_mhz", "temperature_c", "throttled_flags", "load_average", "memory_available_mib")
_POLICY = ("governor", "frequency_policies", "boost", "max_frequency_mhz", "usable_cores")


def round_medians(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Median milliseconds on the wall of each round, in the order of the rounds."""
    walls: dict[int, list[float]] = {}
    for sample in samples:
        walls.setdefault(sample.round, []).append(sample.taken.wall_ms)
    return tuple(float(np.median(walls[number])) for number in sorted(walls))


def spread_of_rounds(medians: Sequence[float]) -> float | None:
    """The 90th percentile of the rounds' medians over their median; None below `MIN_ROUNDS_FOR_SPREAD` rounds."""
    if len(medians) < MIN_ROUNDS_FOR_SPREAD:
        return None
    return float(np.quantile(medians, 0.90) / np.median(medians))


def reasons_invalid(before: Environment, after: Environment, medians: Sequence[float] = ()) -> tuple[str, ...]:
    """Why times measured between two states of a machine are worth nothing; empty when they are worth something.

    The Raspberry Pi's flags "since start" stay until it is started again. Where one is set before the measurement,
    nobody can tell whether the board throttled once more, so that it counts as if it had.

    Args:
        before: The machine before the measurement.
        after: The same machine afterwards.
        medians: Median time of each round; not judged when there are few.
    """
    reasons = [f"the board reports {words}, before the measurement" for words in before.throttling]
    reasons += [
        f"the board reports {words}, after the measurement"
        for words in after.throttling
        if words not in before.throttling
    ]
    reasons += [f"{change}, while measuring" for change in _changes(before, after, _POLICY)]
    spread = spread_of_rounds(medians)
    if spread is not None and spread > SPREAD_AT_MOST:
        reasons.append(
            f"one round in ten took {spread:.2f} times the median round or longer, at most {SPREAD_AT_MOST:g} allowed: "
            "close other programs"
        )
    return tuple(reasons)


def differences(one: Environment, other: Environment) -> tuple[str, ...]:
    """In what two environments differ, but for what changes from minute to minute anyhow."""
    return _changes(one, other, [name for name in Environment.__slots__ if name not in _STATE])


def _changes(one: Environment, other: Environment, names: Sequence[str]) -> tuple[str, ...]:
    """`name was X, is Y` for each field that differs."""
    pairs = ((name, getattr(one, name), getattr(other, name)) for name in names)
    return tuple(f"{name} was {_text(was)}, is {_text(now)}" for name, was, now in pairs if was != now)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(dict.fromkeys(map(str, value))) or "none"
    return "unknown" if value is None else str(value)
