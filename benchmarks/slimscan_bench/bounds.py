"""What `slimscan bench --check` demands of the device runtime, and whether a measurement keeps to it."""

from dataclasses import dataclass
from typing import Literal

from slimscan_bench.bootstrap import Interval

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One figure and the most that it may be.

    Attributes:
        name: What is measured, and its unit if it has one.
        at_most: The most that is allowed.
        why: Where the bound comes from.
    """

    name: str
    at_most: float
    why: str


OVER_PLAIN = Bound(
    name="p50 over the plain way's",
    at_most=0.7,
    why="our aim: reduced decoding and integers must save at least three tenths, or they are not worth their code",
)
OVER_FLOOR = Bound(
    name="p50 over the floor's",
    at_most=1.2,
    why="our aim: what is checked and normalised besides may cost a fifth of what cannot be avoided",
)
OTHER_DECISIONS = Bound(
    name="share of images decided otherwise than plain",
    at_most=0.05,
    why="our aim: nobody wins by being wrong; so many may lie so close to the threshold or the refer band",
)
COLD_START = Bound(
    name="first answer over the bare script's",
    at_most=1.5,
    why="our aim: on a small device starting costs more than answering",
)
PEAK_MEMORY = Bound(
    name="peak memory on the largest image, MiB",
    at_most=64.0,
    why="our aim: an eighth of the 512 MB of a Raspberry Pi Zero 2 W or 3 A+",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A bound beside what was measured.

    Attributes:
        bound: What is demanded.
        value: What was measured; None when it was not.
        interval: 95 % interval of the value; both ends are the value where it is exact, None where none is known.
    """

    bound: Bound
    value: float | None
    interval: Interval | None

    @property
    def verdict(self) -> Verdict:
        """`PASS` or `FAIL` when all of the interval lies on one side of the bound; else nobody can tell."""
        if self.value is None or self.interval is None:
            return "INCONCLUSIVE"
        if self.interval.high <= self.bound.at_most:
            return "PASS"
        return "FAIL" if self.interval.low > self.bound.at_most else "INCONCLUSIVE"

    @property
    def excess(self) -> str:
        """In words what is wrong; empty when the bound is kept to."""
        if self.verdict == "PASS":
            return ""
        allowed = f"{self.bound.name}: at most {self.bound.at_most:g} allowed"
        if self.value is None:
            return f"{allowed}, not measured"
        if self.verdict == "FAIL":
            return f"{allowed}, got {self.value:.3g}, {self.value - self.bound.at_most:.3g} too much"
        spread = f"{self.interval.low:.3g} to {self.interval.high:.3g}" if self.interval else "no interval"
        return f"{allowed}, got {self.value:.3g} ({spread}): measure more to tell"


def exact(bound: Bound, value: float | None) -> Held:
    """A bound beside a value that is counted, not estimated."""
    return Held(bound=bound, value=value, interval=None if value is None else Interval(value, value))
