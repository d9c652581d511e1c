"""On paper: the least time that a network's multiply-accumulates can take on a board, if nothing else took any.

Clocks and cores are of the Raspberry Pi documentation (https://www.raspberrypi.com/documentation/computers/processors.html
and the product pages). Multiply-accumulates of int8 a cycle and core are what the vector unit can issue at most:

- Cortex-A53 and A72 have no dot product (Armv8.0). `SMLAL` multiplies 8 pairs of int8 and adds them to 8 sums. The A72
  issues one a cycle: only pipeline F0 multiplies integers (Arm, Cortex-A72 Software Optimisation Guide, 2015, 3.14).
  The A53 issues one at most: integer vectors go to one unit, 64 bits wide (LLVM, AArch64SchedA53.td, after Arm's
  Cortex-A53 Software Optimisation Specification). So 8.
- Cortex-A76 has `SDOT`, 16 multiply-accumulates, of which it issues two a cycle (Arm, Cortex-A76 Software Optimization
  Guide, 2019, 3.16). So 32.

Real kernels reach a part of it: loads, requantisation, depthwise layers and memory are left out.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board, as far as the limit goes.

    Attributes:
        name: Of the board.
        core: Of the processor's cores.
        cores: How many.
        clock_ghz: Of each core.
        macs_per_cycle: Multiply-accumulates of int8 that one core can issue a cycle.
    """

    name: str
    core: str
    cores: int
    clock_ghz: float
    macs_per_cycle: int

    def least_ms(self, macs: int, *, cores: int | None = None) -> float:
        """The least time of so many multiply-accumulates on some of the cores, all when None; milliseconds."""
        return macs / ((cores or self.cores) * self.clock_ghz * 1e6 * self.macs_per_cycle)


BOARDS = (
    Board(name="Raspberry Pi Zero 2 W", core="Cortex-A53", cores=4, clock_ghz=1.0, macs_per_cycle=8),
    Board(name="Raspberry Pi 3 B", core="Cortex-A53", cores=4, clock_ghz=1.2, macs_per_cycle=8),
    Board(name="Raspberry Pi 4 B", core="Cortex-A72", cores=4, clock_ghz=1.5, macs_per_cycle=8),
    Board(name="Raspberry Pi 5", core="Cortex-A76", cores=4, clock_ghz=2.4, macs_per_cycle=32),
)
