"""A program that is started and spoken to in lines of JSON, questions on its standard input, answers on its output."""

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from slimscan_edge.cli import BLAS_THREADS
from slimscan_edge.errors import MachineError

ANSWER_SECONDS = 180.0
"""Without a line for so long a program has failed: the slowest start that we know takes a tenth of it."""


class ChildError(MachineError):
    """A program could not be started, ended, or wrote something else: the reason, in one line that begins with "it"."""


class Child:
    """A started program; a context manager that ends it."""

    def __init__(
        self, command: Sequence[str], *, seconds: float = ANSWER_SECONDS, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it.

        Args:
            command: Words of the command line.
            seconds: How long it may take from one line to the next.
            environment: Its environment; as from a shell when None.

        Raises:
            ChildError: It cannot be started.
        """
        self._seconds = seconds
        self._rest = b""
        self._complaints = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed in close()
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=self._complaints, env=environment or as_from_a_shell()
            )
        except OSError as exc:
            self._complaints.close()
            raise ChildError(f"{command[0]} cannot be started: {exc.strerror or exc}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def peak_memory_mib(self) -> float | None:
        """Its largest resident set so far; None where `/proc` does not tell."""
        return peak_memory_mib(self._process.pid)

    def tell(self, value: Any) -> None:
        """Write it a line.

        Raises:
            ChildError: It has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise ChildError(self._last_words()) from exc

    def hear(self) -> Any:
        """The next line that it writes, a JSON object or list.

        Raises:
            ChildError: It ended, took too long, or wrote something else.
        """
        assert self._process.stdout is not None
        pipe, until = self._process.stdout.fileno(), monotonic() + self._seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - monotonic()))
            if not ready:
                raise ChildError(f"no answer for {self._seconds:g} seconds")
            found = os.read(pipe, 65536)
            if not found:
                raise ChildError(self._last_words())
            self._rest += found
        line, self._rest = self._rest.split(b"\n", 1)
        try:
            return json.loads(line)
        except ValueError as exc:
            raise ChildError(f"it wrote {line[:80]!r}, expected a line of JSON") from exc

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

    def _last_words(self) -> str:
        """Why it ended."""
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        self._complaints.seek(0)
        said = self._complaints.read().strip().splitlines() or ["no message"]
        return f"it ended with exit code {code}: {said[-1][:300]}"


@contextmanager
def held_to_cores(turn: int, cores: int) -> Iterator[None]:
    """Programs that are started inside run on the same few cores, from turn to turn on others; on Linux only.

    What else shares a core slows it down, so that two programs on two cores differ for as long as that lasts.

    Args:
        turn: Which turn it is, from 0.
        cores: On how many.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {usable[(turn * cores + k) % len(usable)] for k in range(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def as_from_a_shell() -> dict[str, str]:
    """This process's environment without what it was told at its own start, which is not handed on."""
    return {name: value for name, value in os.environ.items() if name != BLAS_THREADS}


def peak_memory_mib(process: int) -> float | None:
    """Largest resident set so far of a running process, by its id; None where `/proc` does not tell."""
    # Not ru_maxrss: on Linux a process inherits the peak of the one that started it (getrusage(2), execve).
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None
