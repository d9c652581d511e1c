"""Cutting a network short: for each of its operators, what leads up to it, and the same with it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from slimscan_bench.tflite_file import TfliteFile

Prefix: TypeAlias = frozenset[int]
"""Operators by their index in the file, with all that they depend on; empty where the network begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator between two prefixes of its network.

    Attributes:
        operator: Its index in the file.
        before: All that its inputs depend on; empty for one that takes the network's input.
        through: The same, the operator itself and what unpacks its weights.
    """

    operator: int
    before: Prefix
    through: Prefix


def steps(file: TfliteFile) -> tuple[Step, ...]:
    """Every operator that the network's input reaches, in the file's order, which is that of execution.

    One that unpacks constants (float16 kernels, say) is no step of its own: it belongs to the one that takes them.
    A sum of two branches comes after both, so that along a chain of operators, with or without residual branches, each
    step begins where another ends.
    """
    reached = {int(index) for index in file.graph.inputs}
    through: dict[int, Prefix] = {}  # by the tensor that is made
    found = []
    for index, operator in enumerate(file.graph.operators):
        taken = [int(tensor) for tensor in operator.inputs]
        prefix = _joined(taken, through) | {index}
        if reached.intersection(taken):
            reached.update(int(tensor) for tensor in operator.outputs)
            before = _joined((tensor for tensor in taken if tensor in reached), through)
            found.append(Step(operator=index, before=before, through=prefix))
        through.update(dict.fromkeys((int(tensor) for tensor in operator.outputs), prefix))
    return tuple(found)


def cut(file: TfliteFile, prefix: Prefix) -> bytes:
    """The bytes of a `.tflite` file with the operators of a prefix, which gives whatever none of them takes up."""
    operators = [file.graph.operators[index] for index in sorted(prefix)]
    taken = {int(tensor) for operator in operators for tensor in operator.inputs}
    return file.packed(prefix, [tensor for operator in operators for tensor in _ends(operator, taken)])


def _ends(operator: Any, taken: set[int]) -> list[int]:
    """What an operator makes, when nothing of it is taken up."""
    made = [int(tensor) for tensor in operator.outputs]
    return [] if taken.intersection(made) else made


def _joined(tensors: Iterable[int], through: dict[int, Prefix]) -> Prefix:
    return frozenset().union(*(through.get(tensor, frozenset()) for tensor in tensors))
