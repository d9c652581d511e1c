"""How long each operator of a network takes. Base dependencies only.

XNNPACK runs a whole network as one operator of the interpreter, which cannot tell what is inside. So the network is cut
short after each operator, and what one more operator adds is what it takes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.bootstrap import Interval, interval_text
from slimscan_bench.latency import over_runs
from slimscan_bench.prefixes import Prefix, cut, steps
from slimscan_bench.tflite_file import TfliteFile
from slimscan_edge.errors import InputError
from slimscan_edge.interpreter import Interpreter

UNTIMED_RUNS = 2
"""Of a network just loaded: the first one meets cold caches, and takes a few percent longer than all that follow."""
TIMED_RUNS = 3
"""The fastest of them is kept: an operator takes a percent of the network, and other programs only ever add."""
SEED = 0
"""Of the pixels, and of the order in each round."""
MOST_LISTED = 12
"""Operators named in the table for people."""
LONGEST_NAME = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTimes:
    """One operator of a network, and what it adds to the network's time.

    Attributes:
        kind: Its name in the schema, as `CONV_2D`.
        name: Of the tensor that it makes.
        shape: Of the tensor that it makes.
        macs: Multiply-accumulates of one image; 0 for what neither convolves nor is fully connected.
        differences_us: Microseconds that the network cut after it takes above the network cut before it, by round. Two
            measured times are subtracted, so that what takes next to nothing is below 0 in some rounds.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    macs: int
    differences_us: tuple[float, ...]

    @property
    def p50_us(self) -> float:
        """Median over the rounds."""
        return over_runs(self.differences_us).p50

    @property
    def interval(self) -> Interval | None:
        """95 % bootstrap interval of the median, rounds drawn; None with one round."""
        return over_runs(self.differences_us).p50_interval

    @property
    def macs_per_ns(self) -> float | None:
        """Multiply-accumulates a nanosecond, by the median; None for what has none, or no time that can be told."""
        return self.macs / (1e3 * self.p50_us) if self.macs and self.p50_us > 0 else None

    @property
    def short_name(self) -> str:
        """The layer's name within the tensor's, which lists all that conversion made one, with scopes.

        `model/a_relu/Relu6;model/a_bn/FusedBatchNormV3;model/a/Conv2D1` is `a`. A long one loses its beginning.
        """
        scopes = self.name.split(";")[-1].split("/")
        name = "/".join(scopes[1:-1]) or self.name
        return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkProfile:
    """Where the time of a network goes.

    Attributes:
        threads: Threads of one inference.
        whole_us: Microseconds of the whole network as it is shipped, by round.
        operators: In the file's order. Of those that take the network's input the time includes the call itself.
    """

    threads: int
    whole_us: tuple[float, ...]
    operators: tuple[OperatorTimes, ...]

    @property
    def whole_p50_us(self) -> float:
        """Median of the whole network."""
        return over_runs(self.whole_us).p50

    @property
    def whole_interval(self) -> Interval | None:
        """95 % bootstrap interval of that median, rounds drawn; None with one round."""
        return over_runs(self.whole_us).p50_interval

    @property
    def sum_p50_us(self) -> float:
        """Median over the rounds of all operators together: the whole's but for the noise, where there is one head."""
        return _together_p50_us(self.operators)

    def to_lines(self) -> list[str]:
        """The table for people, line by line: what takes longest first, and the rest in one line."""
        by_time = sorted(self.operators, key=lambda operator: -operator.p50_us)
        listed, rest = by_time[:MOST_LISTED], by_time[MOST_LISTED:]
        interval = self.whole_interval
        spread = f" ({interval_text(interval, 1)})" if interval else ""
        lines = [
            f"the network's operators, {_counted(self.threads, 'thread')}, "
            f"{_counted(len(self.whole_us), 'round')}: the whole takes {self.whole_p50_us:.1f} us{spread}, "
            f"{len(self.operators)} operators together {self.sum_p50_us:.1f} us",
            f"  {'operator':19}{'makes':{LONGEST_NAME + 2}}{'shape':14}{'M MACs':>8}{'us':>9}  "
            f"{'95 % interval':^16}{'share':>7}{'MACs/ns':>9}",
            *(self._line(operator) for operator in listed),
        ]
        if rest:
            lines.append(
                f"  and {_counted(len(rest), 'operator')} that {'takes' if len(rest) == 1 else 'take'} less, "
                f"together {_together_p50_us(rest):.1f} us"
            )
        return lines

    def _line(self, operator: OperatorTimes) -> str:
        rate = operator.macs_per_ns
        return (
            f"  {operator.kind:19}{operator.short_name:{LONGEST_NAME + 2}}{'x'.join(map(str, operator.shape)):14}"
            f"{f'{operator.macs / 1e6:.3f}' if operator.macs else '-':>8}{operator.p50_us:9.1f}  "
            f"{interval_text(operator.interval, 1):^16}"
            f"{operator.p50_us / self.whole_p50_us:7.1%}{'-' if rate is None else f'{rate:.1f}':>9}"
        )


def profile_operators(
    model: bytes, *, threads: int, rounds: int, progress: Callable[[int], None] = lambda _: None
) -> NetworkProfile:
    """Time a network cut short after each operator, round after round, and tell what each operator adds.

    A cut network computes what the whole does up to there: the same operators on the same weights. In each round each
    of them, and the whole, is loaded anew, in an order drawn anew: two copies of one network in memory differ by more
    than a small operator takes, for as long as they stay where they are, and rounds over the same copies would all err
    alike. One at a time is loaded, so that no other's threads are awake. Timed is the copying of the pixels in and the
    run, warm; outputs are not copied out, which would be charged to operators that make much.

    What it cannot tell: XNNPACK plans the memory of each network by itself, so that a tensor may lie nearer to the
    processor in one than in another. And operators that it fuses it cannot fuse where the network is cut between them:
    the first has the time that it takes alone, the second the rest.

    Args:
        model: The bytes of a `.tflite` file with one input.
        threads: Threads of one inference.
        rounds: How often each is loaded and timed.
        progress: Called with the number of rounds done.

    Raises:
        InputError: The model has several graphs or no operators, or there is no round.
        MachineError: ai-edge-litert is not installed.
        InterpreterError: The interpreter refuses the model.
    """
    if rounds < 1 or threads < 1:
        raise InputError(f"got {rounds} rounds with {threads} threads, expected at least 1 each")
    file = TfliteFile(model)
    if file.graphs != 1:
        raise InputError(f"the model has {file.graphs} graphs; operators are told apart in models of one graph only")
    if not (taken := steps(file)):
        raise InputError("the model has no operators that its input reaches, so that none can be timed")
    beginning: Prefix = frozenset()
    prefixes = {prefix for step in taken for prefix in (step.before, step.through)} - {beginning}
    cuts: dict[Prefix | None, bytes] = {None: model, **{prefix: cut(file, prefix) for prefix in prefixes}}
    times_us = _rounds(cuts, threads=threads, rounds=rounds, progress=progress)
    times_us[beginning] = np.zeros(rounds)
    macs = file.macs()
    operators = []
    for step in taken:
        operator = file.graph.operators[step.operator]
        made = int(operator.outputs[0])
        operators.append(
            OperatorTimes(
                kind=file.kind(operator),
                name=file.tensor(made).name.decode(),
                shape=tuple(int(size) for size in file.tensor(made).shape),
                macs=macs.get(made, 0),
                differences_us=_rounded(times_us[step.through] - times_us[step.before]),
            )
        )
    return NetworkProfile(threads=threads, whole_us=_rounded(times_us[None]), operators=tuple(operators))


def _rounds(
    cuts: Mapping[Prefix | None, bytes], *, threads: int, rounds: int, progress: Callable[[int], None]
) -> dict[Prefix | None, NDArray[np.float64]]:
    """Microseconds of every network, float64 `[rounds]`."""
    generator = np.random.default_rng(SEED)
    names = sorted(cuts, key=lambda prefix: sorted(prefix or ()))
    times_us = {name: np.zeros(rounds) for name in names}
    for count in range(rounds):
        for place in generator.permutation(len(names)):
            times_us[names[place]][count] = _run_us(cuts[names[place]], threads)
        progress(count + 1)
    return times_us


def _run_us(model: bytes, threads: int) -> float:
    """Microseconds of a network, loaded for this and warm."""
    interpreter = Interpreter(model, threads=threads)
    shape, dtype = interpreter.input.shape, interpreter.input.dtype
    pixels = np.random.default_rng(SEED).integers(0, 256, shape).astype(dtype)
    taken = []
    for _ in range(UNTIMED_RUNS + TIMED_RUNS):
        start = perf_counter()
        interpreter.run(pixels)
        taken.append(perf_counter() - start)
    return 1e6 * min(taken[UNTIMED_RUNS:])


def _rounded(times_us: NDArray[np.float64]) -> tuple[float, ...]:
    """To 0.01 us: a clock tells no more."""
    return tuple(round(float(time), 2) for time in times_us)


def _together_p50_us(operators: Sequence[OperatorTimes]) -> float:
    """Median over the rounds of what several operators take."""
    return float(np.median(np.sum([operator.differences_us for operator in operators], axis=0)))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
