"""Instructions that an answer takes, counted by valgrind: a twin of time that comes out the same on a busy machine.

They are those of the kernels that valgrind's processor has (no AVX-512), and say nothing of caches and memory. A
process that answers several times less one that answers once leaves what an answer takes when all is loaded.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slimscan_edge.cli import BLAS_THREADS
from slimscan_edge.errors import MachineError

ANSWERS = 10
"""Beside the first, whose cost is told apart."""
_PROGRAM = Path(__file__).parent / "programs" / "many_answers.py"
_TOTAL = re.compile(r"I\s+refs:\s+([\d,]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """Of one way, one image and one thread.

    Attributes:
        way: `slimscan`, or the other way's name.
        image: The image's file name.
        first: From the process's start to the end of the first answer.
        more: The same with `ANSWERS` more answers.
    """

    way: str
    image: str
    first: int
    more: int

    @property
    def per_answer(self) -> float:
        """What one more answer takes."""
        return (self.more - self.first) / ANSWERS


def count_instructions(
    bundle_path: Path, image: Path, ways: Sequence[str], *, progress: Callable[[int], None] = lambda _: None
) -> tuple[Instructions, ...]:
    """Count for ours and other ways.

    Args:
        bundle_path: The bundle's file.
        image: Image file to answer for.
        ways: Names of other ways beside ours.
        progress: Called with the number of ways done.

    Raises:
        MachineError: valgrind is absent, or cannot run the program.
    """
    counts = []
    with tempfile.TemporaryDirectory(prefix="slimscan-compiled-") as compiled:
        for way in ("slimscan", *ways):
            first, more = (_count(way, bundle_path, image, answers, compiled) for answers in (1, 1 + ANSWERS))
            counts.append(Instructions(way=way, image=image.name, first=first, more=more))
            progress(len(counts))
    return tuple(counts)


def _count(way: str, bundle_path: Path, image: Path, answers: int, compiled: str) -> int:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise MachineError("valgrind is not installed; run: sudo apt install valgrind")
    tool = ["--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={os.devnull}"]
    program = [sys.executable, "-P", str(_PROGRAM), way, str(bundle_path), "1", str(image), str(answers)]
    # Hashes of strings, and so the order of sets, are random from process to process unless told otherwise; and threads
    # of linear algebra spin while they wait for work, for as long as they happen to. Modules are compiled before, by a
    # process that is not counted: a fresh installation would have that in its first start.
    environment = {**os.environ, "PYTHONHASHSEED": "0", BLAS_THREADS: "1", "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(program, capture_output=True, env=environment)
    done = subprocess.run([valgrind, *tool, *program], capture_output=True, text=True, env=environment)
    found = _TOTAL.search(done.stderr)
    if done.returncode or not found:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MachineError(f"valgrind could not count the instructions of {_PROGRAM.name} ({last})")
    return int(found[1].replace(",", ""))
