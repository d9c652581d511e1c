"""One peer at work: a process that is asked for one image at a time, by `benchmarks/peers/protocol.py`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from slimscan_bench.child import ANSWER_SECONDS, Child, ChildError


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a peer says of one image.

    Attributes:
        value: A logit, or a score.
        wall_ns: From file to value, by the clock on the wall.
        cpu_ns: The same in processors' time, all threads together.
        stages_ns: Parts of it by the clock on the wall.
    """

    value: float
    wall_ns: int
    cpu_ns: int
    stages_ns: Mapping[str, int]


class PeerProcess(Child):
    """A started peer; a context manager that ends it.

    Attributes:
        ready_at: When it had loaded its model, by `time.perf_counter`; NaN until it has answered.
        versions: Versions of its packages; known once it has answered.
    """

    def __init__(self, command: Sequence[str], *, seconds: float = ANSWER_SECONDS) -> None:
        """Start it.

        Args:
            command: Words of the command line.
            seconds: How long it may take to answer.

        Raises:
            ChildError: It cannot be started.
        """
        super().__init__(command, seconds=seconds)
        self.ready_at = math.nan
        self.versions: Mapping[str, str] = {}

    def ask(self, image: Path) -> Reply:
        """Let it answer for an image.

        Raises:
            ChildError: It ended, took too long, or says that it cannot.
        """
        self.tell({"image": str(image)})
        if math.isnan(self.ready_at):
            greeting = self.hear()
            if "versions" not in greeting:
                raise ChildError("it told no versions before its first answer")
            self.versions = greeting["versions"]
            self.ready_at = perf_counter()
        answer = self.hear()
        if "error" in answer:
            raise ChildError(f"{image.name}: {answer['error']}")
        return Reply(**answer)
