"""From the start of a process to its first answer, and the memory it took: ours against the least that can be.

Ours is `slimscan predict` as the command line starts it. The floor is a bare script that imports NumPy, Pillow
and the interpreter and runs the same model on the same image without a check, for DICOM on a PNG of
its pixels. They run in turn, so that the ratio
of the two is of one machine in one state. "Cold" is the process: files have been read before and come from the
page cache.
"""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from PIL import Image, UnidentifiedImageError

from slimscan_bench.child import as_from_a_shell, peak_memory_mib
from slimscan_edge.bundle import Bundle
from slimscan_edge.errors import EXIT_BAD_INPUT, InputError, InterpreterError
from slimscan_edge.preprocess import PreprocessSpec, decode

_PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One fresh process.

    Attributes:
        first_answer_ms: From starting the process to having its answer.
        peak_memory_mib: Its largest resident set by then; None where `/proc` does not tell.
    """

    first_answer_ms: float
    peak_memory_mib: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """One start of ours and one of the floor, right after each other.

    Attributes:
        image: Name of the image that both answered for.
        slimscan: Ours.
        floor: The bare script.
    """

    image: str
    slimscan: Start
    floor: Start

    @property
    def ratio(self) -> float:
        """How many times the floor's time ours took."""
        return self.slimscan.first_answer_ms / self.floor.first_answer_ms


def measure_cold_starts(
    bundle: Bundle,
    image: Path,
    *,
    bundle_path: Path,
    threads: int,
    runs: int,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[ColdStart, ...]:
    """Start both programs in turn, after one start of each that is not kept; nothing at all for 0 runs.

    Args:
        bundle: The bundle, verified.
        image: Image file to answer for.
        bundle_path: The bundle's file, for ours to read.
        threads: Threads of one inference.
        runs: Pairs that are kept.
        progress: Called with the number of pairs done, the first included.

    Raises:
        InputError: The image is rejected.
        InterpreterError: A program ended without an answer.
    """
    if not runs:
        return ()
    with tempfile.TemporaryDirectory(prefix="slimscan-bench-") as folder:
        model = Path(folder) / "model.tflite"
        model.write_bytes(bundle.model)
        oversample = bundle.manifest.preprocess.jpeg_oversample
        options = ["--bundle", str(bundle_path), "--threads", str(threads), "--allow-failed"]
        commands = {
            "slimscan": ["with_slimscan.py", "predict", str(image), *options],
            "floor": ["floor.py", str(model), str(threads), str(_for_the_floor(image, Path(folder))), str(oversample)],
        }
        pairs = []
        for run in range(runs + 1):
            order = ("slimscan", "floor") if run % 2 else ("floor", "slimscan")  # neither always goes first
            starts = {name: _start(commands[name]) for name in order}
            pairs.append(ColdStart(image=image.name, slimscan=starts["slimscan"], floor=starts["floor"]))
            progress(run + 1)
    return tuple(pairs[1:])


def _for_the_floor(image: Path, folder: Path) -> Path:
    """The image, or its pixels as PNG where Pillow does not read it (DICOM), and so a bare script does not."""
    with contextlib.suppress(FileNotFoundError, PermissionError):  # which the programs tell
        try:
            Image.open(image).close()
        except UnidentifiedImageError:
            twin = folder / "image.png"
            decode(image, PreprocessSpec(jpeg_oversample=0)).save(twin, compress_level=1)
            return twin
    return image


def _start(words: list[str]) -> Start:
    # -P: the script's own folder is not searched for modules, for either program.
    command = [sys.executable, "-P", str(_PROGRAMS / words[0]), *words[1:]]
    with tempfile.TemporaryFile("w+") as complaints:
        began = perf_counter()
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, env=as_from_a_shell()
        ) as child:
            assert child.stdout is not None
            answer = child.stdout.readline()
            first_answer_ms = (perf_counter() - began) * 1e3
            peak = peak_memory_mib(child.pid)
            child.communicate()
        complaints.seek(0)
        if answer.strip() and child.returncode == EXIT_BAD_INPUT:
            raise InputError(f"no start can be timed with an image that is not answered for: {answer.strip()}")
        if not answer.strip() or child.returncode:
            last = (complaints.read().strip().splitlines() or ["no message"])[-1]
            raise InterpreterError(
                f"{words[0]} ended with exit code {child.returncode} before its answer ({last}); run: slimscan doctor"
            )
    return Start(first_answer_ms=first_answer_ms, peak_memory_mib=peak)
