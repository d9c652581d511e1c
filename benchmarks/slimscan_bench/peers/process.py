"""One peer at work: a process that is asked for one image at a time, by `benchmarks/peers/protocol.py`."""

import json
import math
import os
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any

from slimscan_bench.cold_start import peak_memory_mib
from slimscan_edge.cli import BLAS_THREADS
from slimscan_edge.errors import MachineError

ANSWER_SECONDS = 180.0
"""Without an answer for so long a peer has failed: the slowest start that we know takes a tenth of it."""


class PeerError(MachineError):
    """A peer could not be started, ended, or could not answer: the reason, in one line."""


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


class PeerProcess:
    """A started peer; a context manager that ends it.

    Attributes:
        ready_at: When it had loaded its model, by `time.perf_counter`; NaN until it has answered.
    """

    def __init__(self, command: Sequence[str], *, seconds: float = ANSWER_SECONDS) -> None:
        """Start it.

        Args:
            command: Words of the command line.
            seconds: How long it may take to answer.

        Raises:
            PeerError: It cannot be started.
        """
        # As from a shell: what this process was told at its own start is not handed on.
        environment = {name: value for name, value in os.environ.items() if name != BLAS_THREADS}
        self._seconds = seconds
        self._rest = b""
        self.ready_at = math.nan
        self._versions: Mapping[str, str] | None = None
        self._complaints = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed in close()
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints, env=environment
            )
        except OSError as exc:
            self._complaints.close()
            raise PeerError(f"{command[0]} cannot be started: {exc.strerror or exc}") from exc

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of its packages; known once it has answered."""
        return self._versions or {}

    @property
    def peak_memory_mib(self) -> float | None:
        """Its largest resident set so far; None where `/proc` does not tell."""
        return peak_memory_mib(self._process.pid)

    def ask(self, image: Path) -> Reply:
        """Let it answer for an image.

        Raises:
            PeerError: It ended, took too long, or says that it cannot.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"image": str(image)}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise PeerError(self._last_words()) from exc
        if self._versions is None:
            greeting = self._line()
            if "versions" not in greeting:
                raise PeerError("it told no versions before its first answer")
            self._versions = greeting["versions"]
            self.ready_at = perf_counter()
        answer = self._line()
        if "error" in answer:
            raise PeerError(f"{image.name}: {answer['error']}")
        return Reply(**answer)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._complaints.close()

    def _line(self) -> dict[str, Any]:
        """The next line that it writes."""
        assert self._process.stdout is not None
        pipe, until = self._process.stdout.fileno(), monotonic() + self._seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - monotonic()))
            if not ready:
                raise PeerError(f"no answer for {self._seconds:g} seconds")
            found = os.read(pipe, 65536)
            if not found:
                raise PeerError(self._last_words())
            self._rest += found
        line, self._rest = self._rest.split(b"\n", 1)
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as exc:
            raise PeerError(f"it wrote {line[:80]!r}, expected a JSON object") from exc
        return answer

    def _last_words(self) -> str:
        """Why it ended."""
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        self._complaints.seek(0)
        said = self._complaints.read().strip().splitlines() or ["no message"]
        return f"it ended with exit code {code}: {said[-1][:300]}"
