"""Start `predict` with overlays and `bench` again and again, each under one fault drawn at random.

What must hold each time, whatever the fault: no traceback, a documented exit code (or the end by the signal that was
sent), no file changed but the ones that the command writes, these whole or absent, and the same command again, without
the fault, works:

    python tests/faults/harness.py --count 200 --seed 0

The faults: a disk that is full from some byte on (RLIMIT_FSIZE), SIGINT, SIGTERM and SIGKILL at some moment, standard
streams that are closed or full, no thread, no memory file and no process beside this one, and little memory.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

BUNDLE = Path(__file__).parents[1] / "golden" / "brightness-1.0.0.slimscan"
DOCUMENTED = {0, 1, 2, 3, 4}
"""70 is documented too, as a fault of slimscan's, and so is a finding here."""
AS_COMMAND = (sys.executable, "-m", "slimscan_edge")
REFUSING = """
import os, sys, threading
def refuse(*_, **__): raise {error}
for place, name in {refused}:
    if hasattr(place, name): setattr(place, name, refuse)
from slimscan_edge.cli import main
sys.exit(main())
"""
NO_THREADS = REFUSING.format(
    error='RuntimeError("can\'t start new thread")', refused='((threading, "_start_new_thread"),)'
)
NO_HELPERS = REFUSING.format(
    error='OSError(1, "Operation not permitted")', refused='((os, "memfd_create"), (os, "posix_spawnp"))'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong for one process.

    Attributes:
        name: Its kind.
        program: What starts the command line.
        prepare: Called in the new process before it is one of ours.
        sent: A signal; 0 for none.
        after_s: When it is sent.
        to_file: Standard output goes into a file, which the full disk holds too.
    """

    name: str
    program: tuple[str, ...] = AS_COMMAND
    prepare: Callable[[], None] = lambda: None
    sent: int = 0
    after_s: float = 0.0
    to_file: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a process ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float


@dataclass(slots=True, kw_only=True)
class Workplace:
    """A folder with images, a bundle and what the commands write; and what these say where nothing goes wrong."""

    folder: Path
    baselines: dict[str, Result] = field(default_factory=dict)
    overlays: dict[str, bytes] = field(default_factory=dict)

    def command(self, name: str) -> list[str]:
        """The words of a command."""
        bundle, images, out = (str(self.folder / part) for part in ("b.slimscan", "images", "out"))
        if name == "predict":
            return ["predict", images, "--bundle", bundle, "--json", "--overlay", f"{out}/overlays"]
        counts = ["--processes", "1", "--repeats", "1", "--warmup", "0", "--cold-starts", "1"]
        return ["bench", images, "--bundle", bundle, "--json", *counts, "--out", f"{out}/benchmark.json"]

    def clear(self) -> None:
        """Remove what the commands wrote; a file of somebody else's stays among it."""
        for part in ("out", "tmp"):
            shutil.rmtree(self.folder / part, ignore_errors=True)
            (self.folder / part).mkdir()
        (self.folder / "out" / "overlays").mkdir()
        (self.folder / "out" / "overlays" / "kept.txt").write_text("somebody else's")

    def run(self, name: str, fault: Fault) -> Result:
        """Run a command under a fault."""
        began = time.perf_counter()
        with (
            (self.folder / "stdout").open("wb") if fault.to_file else contextlib.nullcontext(subprocess.PIPE) as stdout
        ):
            process = subprocess.Popen(
                [*fault.program, *self.command(name)],
                stdout=stdout,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                preexec_fn=lambda: _prepare(fault),
                env={**os.environ, "TMPDIR": str(self.folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"},
            )
            if fault.sent:
                time.sleep(max(0.0, fault.after_s))
                process.send_signal(fault.sent)
            said, complained = process.communicate(timeout=600)
        seconds = time.perf_counter() - began
        said = (self.folder / "stdout").read_bytes() if fault.to_file else said
        return Result(
            code=process.returncode,
            stdout=said.decode(errors="replace"),
            stderr=complained.decode(errors="replace"),
            seconds=seconds,
        )

    def others(self) -> dict[str, str]:
        """Every file that no command may change, with its digest."""
        inside = [path for part in ("images", "b.slimscan") for path in self._files(self.folder / part)]
        inside.append(self.folder / "out" / "overlays" / "kept.txt")
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in inside}

    def left_over(self) -> list[str]:
        """Files under `out` and `tmp` that are not what a command writes when all goes well, or not the whole of it."""
        bad = []
        for path in self._files(self.folder / "out"):
            whole = self.overlays.get(path.name) == path.read_bytes() if path.parent.name == "overlays" else None
            if path.name == "benchmark.json":
                with contextlib.suppress(ValueError):
                    whole = json.loads(path.read_bytes())["schema_version"] > 0
            if path.name != "kept.txt" and not whole:
                bad.append(str(path.relative_to(self.folder)))
        return bad

    def temporary(self) -> list[str]:
        """What is left in the temporary folder."""
        return [path.name for path in (self.folder / "tmp").iterdir()]

    @staticmethod
    def _files(top: Path) -> list[Path]:
        return [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]


def workplace(folder: Path) -> Workplace:
    """Make a folder to work in, and learn what the commands say there."""
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for name, level in (("bright.png", 200), ("dark.jpeg", 40), ("middling.png", 120)):
        pixels = np.clip(rng.normal(level, 9, (300, 240)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
    shutil.copy(BUNDLE, folder / "b.slimscan")
    place = Workplace(folder=folder)
    for name in ("predict", "bench"):
        place.clear()
        place.baselines[name] = place.run(name, Fault(name="none"))
        if place.baselines[name].code not in (0, 3):
            raise SystemExit(f"{name} does not work here: {place.baselines[name].stderr}")
        found = (place.folder / "out" / "overlays").glob("*.png")
        place.overlays.update((path.name, path.read_bytes()) for path in found)
    return place


def draw_fault(rng: random.Random, seconds: float, largest_bytes: int) -> Fault:
    """One fault of those above."""
    kind = rng.choice(
        (
            "full disk",
            "SIGINT",
            "SIGTERM",
            "SIGKILL",
            "closed streams",
            "full streams",
            "no threads",
            "no helpers",
            "memory",
        )
    )
    if kind.startswith("SIG"):
        return Fault(name=kind, sent=getattr(signal, kind), after_s=rng.uniform(0, 1.05 * seconds))
    if kind == "full disk":
        return Fault(
            name=kind, prepare=_limited("RLIMIT_FSIZE", rng.randrange(largest_bytes)), to_file=rng.random() < 0.5
        )
    if kind == "memory":
        return Fault(name=kind, prepare=_limited("RLIMIT_DATA", rng.randrange(16, 200) * 2**20))
    if kind == "no threads":
        return Fault(name=kind, program=(sys.executable, "-c", NO_THREADS), prepare=_limited("RLIMIT_NPROC", 1))
    if kind == "no helpers":
        return Fault(name=kind, program=(sys.executable, "-c", NO_HELPERS))
    streams = rng.choice(((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)))
    if kind == "closed streams":
        return Fault(name=kind, prepare=lambda: [os.close(stream) for stream in streams] and None)
    return Fault(name=kind, prepare=lambda: _fill(streams))


def _prepare(fault: Fault) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background has it ignored, and hands that on
    fault.prepare()


def _limited(limit: str, value: int) -> Callable[[], None]:
    """Set a limit; root may start processes beyond any, and is left to the other means."""
    return lambda: resource.setrlimit(getattr(resource, limit), (value, value))


def _fill(streams: tuple[int, ...]) -> None:
    full = os.open("/dev/full", os.O_RDWR)
    for stream in streams:
        os.dup2(full, stream)


def findings(place: Workplace, name: str, fault: Fault, result: Result, before: dict[str, str]) -> list[str]:
    """What should not have happened."""
    found = []
    said = result.stdout + result.stderr
    if "Traceback" in said and not _began_without_us(said):
        found.append("a traceback")
    if result.code not in DOCUMENTED and result.code != -fault.sent and not _began_without_us(said):
        found.append(f"exit code {result.code}")
    if place.others() != before:
        found.append("another file changed")
    if left := place.left_over():
        found.append(f"left behind: {', '.join(left)}")
    if fault.name != "SIGKILL" and (left := place.temporary()):
        found.append(f"left in the temporary folder: {', '.join(left)}")
    if name == "predict":
        found += _wrong_answers(place, result)
    return found


def _began_without_us(said: str) -> bool:
    """Whether Python was interrupted while it started by itself: its own words, and none of our files in them."""
    return "KeyboardInterrupt" in said and "slimscan_edge/cli.py" not in said


def _wrong_answers(place: Workplace, result: Result) -> list[str]:
    expected = _answers(place.baselines["predict"].stdout)
    lines = result.stdout.split("\n")[:-1]  # the last may be cut where the disk was full
    try:
        return [
            f"answered otherwise: {key}" for key, value in _answers("\n".join(lines)).items() if expected[key] != value
        ]
    except (ValueError, KeyError) as exc:
        return [f"an answer that is none ({exc!r})"]


def _answers(said: str) -> dict[str, tuple[str, float]]:
    """Of each file its decision and logit, but for what was rejected for want of memory or of an overlay's place."""
    table = [json.loads(line) for line in said.splitlines()]
    return {row["file"]: (row["decision"], row["logit"]) for row in table if row["decision"] != "rejected"}


def run_trials(folder: Path, *, count: int, seed: int, note: Callable[[str], None]) -> tuple[Counter[str], list[str]]:
    """Run the trials.

    Returns:
        How many of each fault ended how, and what should not have happened, a line each.
    """
    place, rng = workplace(folder), random.Random(seed)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    seconds = {name: baseline.seconds for name, baseline in place.baselines.items()}
    for number in range(count):
        name = "bench" if rng.random() < 0.15 else "predict"
        largest = 40_000 if name == "bench" else 11 * max(map(len, place.overlays.values())) // 10
        fault = draw_fault(rng, seconds[name], largest)
        place.clear()
        before = place.others()
        result = place.run(name, fault)
        found = findings(place, name, fault, result, before)
        again = place.run(name, Fault(name="none"))
        seconds[name] = again.seconds  # so that a moment lies within a run, however busy the machine is by then
        if (
            again.code not in (0, 3)
            or place.left_over()
            or (
                name == "predict"
                and len(list((place.folder / "out" / "overlays").glob("*.png"))) != len(place.overlays)
            )
        ):
            found.append(f"a second try ended with {again.code}: {again.stderr[-300:]!r}")
        began_without_us = result.code == 1 and _began_without_us(result.stderr)
        ended = (
            "Python had not started"
            if began_without_us
            else f"exit code {result.code}"
            if result.code >= 0
            else "the signal"
        )
        counts[f"{name:8} {fault.name:15} {ended}"] += 1
        for line in found:
            wrong.append(f"trial {number}, {name}, {fault.name}, code {result.code}: {line}; {result.stderr[-400:]!r}")
            note(wrong[-1])
        if (number + 1) % 10 == 0:
            note(f"{number + 1} of {count}, {len(wrong)} findings: {json.dumps(counts)}")
    return counts, wrong


def main() -> int:
    """Run the trials and print their counts; exit code 1 when something happened that should not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slimscan-faults-") as folder:
        counts, wrong = run_trials(
            Path(folder), count=arguments.count, seed=arguments.seed, note=lambda line: print(line, file=sys.stderr)
        )
    for line, many in sorted(counts.items()):
        print(f"{many:4} {line}")
    print(f"{sum(counts.values())} trials, seed {arguments.seed}: {len(wrong)} findings")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
