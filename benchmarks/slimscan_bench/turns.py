"""Two bundles or two builds of slimscan, answering in turn: what drifts on the machine falls on both alike.

Each side answers in a process of its own; while one works the other waits. Processes of the same build differ by a
percent or two for as long as they live (where their memory lies), so that several pairs are started, one after the
other, and a pair counts as one observation. Cores differ too, by what else shares them: both processes of a pair are
held to the same ones, and the next pair to others.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimscan_bench.child import Child, ChildError, held_to_cores
from slimscan_bench.latency import Taken
from slimscan_edge.bundle import SUFFIX
from slimscan_edge.cli import BLAS_THREADS
from slimscan_edge.errors import InputError, InterpreterError

_PROGRAM = Path(__file__).parent / "programs" / "on_demand.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What answers on one side.

    Attributes:
        name: As it was given.
        python: The interpreter of its build.
        bundle: The bundle's file; None for the one shipped with its build.
    """

    name: str
    python: Path
    bundle: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Two answers for one image, right after each other.

    Attributes:
        pair: Which pair of processes, from 0.
        round: Which of the rounds over all images in it, from 0.
        image: Which of the images, from 0.
        old: What the answer of the old side took.
        new: What that of the new side took.
    """

    pair: int
    round: int
    image: int
    old: Taken
    new: Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """All that was measured in turn.

    Attributes:
        old: What the old side loaded: `slimscan`, `bundle_id`, `bundle_sha256`, `interpreter`, `threads`.
        new: The same of the new side.
        images: Names of the images, in the order that turns count them.
        left_out: Names of images that a side rejects, which were not measured.
        decided_otherwise: Names of images on which the two sides decide differently.
        turns: Every pair of answers.
    """

    old: dict[str, Any]
    new: dict[str, Any]
    images: tuple[str, ...]
    left_out: tuple[str, ...]
    decided_otherwise: tuple[str, ...]
    turns: tuple[Turn, ...]


def read_side(path: Path, bundle: Path | None) -> Side:
    """Tell a bundle from an environment of Python.

    Args:
        path: A `.slimscan` file, run by this build; or a folder with `bin/python`, another build.
        bundle: What another build runs; None for the one shipped with it.

    Raises:
        InputError: It is neither.
    """
    if path.suffix == SUFFIX and path.is_file():
        return Side(name=str(path), python=Path(sys.executable), bundle=path)
    python = path / "bin" / "python"
    if python.is_file():
        return Side(name=str(path), python=python, bundle=bundle)
    raise InputError(
        f"{path} is nothing to measure; expected a bundle ({SUFFIX}), an environment of Python (a folder with "
        "bin/python), or two records of slimscan bench (.json)"
    )


def measure_in_turn(
    sides: tuple[Side, Side],
    images: Sequence[Path],
    *,
    threads: int,
    pairs: int,
    warmup: int,
    repeats: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Turns:
    """Let two sides answer for every image in turn.

    Args:
        sides: Old and new.
        images: Readable image files.
        threads: Threads of one inference, and cores that a pair is held to.
        pairs: Pairs of processes.
        warmup: Rounds in each pair that are not kept, beside the first, in which decisions are looked at.
        repeats: Rounds in each pair that are kept.
        progress: Called with the number of pairs done.

    Raises:
        InputError: A side rejects each of the images.
        InterpreterError: A process ended without an answer.
    """
    turns: list[Turn] = []
    decisions: dict[Path, tuple[str, str]] = {}
    loaded: tuple[dict[str, Any], ...] = ()
    kept: list[Path] = []
    for pair in range(pairs):
        with ExitStack() as stack:
            order = (0, 1) if pair % 2 else (1, 0)
            with held_to_cores(pair, threads):
                started = {k: stack.enter_context(_Process(sides[k], threads)) for k in order}
            old, new = started[0], started[1]
            loaded = (old.loaded, new.loaded)
            if not kept:
                decisions = {path: (old.answer(path)[1], new.answer(path)[1]) for path in images}
                kept = [path for path, both in decisions.items() if "rejected" not in both]
                if not kept:
                    raise InputError(f"each of the {len(decisions)} images is rejected by a side; give X-rays")
            turns += _rounds(old, new, kept, pair=pair, warmup=warmup, repeats=repeats)
        progress(pair + 1)
    return Turns(
        old=loaded[0],
        new=loaded[1],
        images=tuple(path.name for path in kept),
        left_out=tuple(path.name for path in images if path not in kept),
        decided_otherwise=tuple(path.name for path in kept if len(set(decisions[path])) > 1),
        turns=tuple(turns),
    )


def _rounds(
    old: "_Process", new: "_Process", images: Sequence[Path], *, pair: int, warmup: int, repeats: int
) -> list[Turn]:
    turns = []
    for count in range(warmup + repeats):
        for index, path in enumerate(images):
            both = (old, new) if (count + index) % 2 else (new, old)
            taken = {process: process.answer(path)[0] for process in both}
            if count >= warmup:
                turns.append(Turn(pair=pair, round=count - warmup, image=index, old=taken[old], new=taken[new]))
    return turns


class _Process(Child):
    """One side, loaded and waiting for images.

    Attributes:
        loaded: What it says of itself.
    """

    def __init__(self, side: Side, threads: int) -> None:
        # -P: the script's own folder is not searched for modules.
        command = (str(side.python), "-P", str(_PROGRAM), str(side.bundle or ""), str(threads))
        super().__init__(command, environment={**os.environ, BLAS_THREADS: "1"})
        self._name = side.name
        try:
            self.loaded: dict[str, Any] = self._reply()
        except InterpreterError:
            self.close()
            raise

    def answer(self, image: Path) -> tuple[Taken, str]:
        """What an answer for an image took, and the decision."""
        with suppress(ChildError):  # it has ended; why is told below
            self.tell(str(image))
        wall_ms, cpu_ms, decision = self._reply()
        return Taken(wall_ms=wall_ms, cpu_ms=cpu_ms), decision

    def _reply(self) -> Any:
        try:
            return self.hear()
        except ChildError as exc:
            raise InterpreterError(
                f"{self._name} gave no answer: {exc}; run with its own Python: slimscan doctor"
            ) from exc
