"""Measure on another machine: copy bundle and images there over SSH, run its own `slimscan bench`, fetch the record.

There it needs slimscan with its base dependencies, a POSIX shell, `mktemp` and `tar`. All is copied into one temporary
folder, which is removed again, also after a failure.
"""

import io
import json
import os
import shlex
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimscan_edge.errors import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_GATE_FAILED,
    EXIT_GATE_INCONCLUSIVE,
    InputError,
    MachineError,
    SlimscanError,
)

_FOLDER = "slimscan-bench-"
_MARK = "slimscan-bench says:"
"""Begins what is read of an answer: a login shell may greet, and say goodbye, on the same standard output."""
_SSH_FAILED, _NOT_FOUND = 255, 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Another machine.

    Attributes:
        host: As `ssh` takes it: `HOST`, `USER@HOST` or a name from its configuration.
        ssh: The command that reaches it, `ssh` and its options.
        program: `slimscan` as it is called there.
    """

    host: str
    ssh: tuple[str, ...] = ("ssh",)
    program: str = "slimscan"

    def __post_init__(self) -> None:
        if not self.host or self.host.startswith("-"):
            raise InputError(f"got the host {self.host!r}, expected HOST or USER@HOST")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
        table: The record, as `slimscan bench --json` prints it.
        exit_code: With which it ended there: done, failed or inconclusive.
    """

    table: dict[str, Any]
    exit_code: int


def measure_there(remote: Remote, bundle: Path, images: Sequence[Path], options: Sequence[str]) -> Answer:
    """Run `slimscan bench` on another machine.

    Args:
        remote: Which.
        bundle: The bundle's file here.
        images: Image files here; it draws its own when there are none.
        options: Of `slimscan bench`, but for the bundle, the images and where the record goes.

    Raises:
        InputError: A file cannot be read, or the command was refused there.
        MachineError: The machine cannot be reached, or lacks what the measurement needs.
    """
    folder = _make_folder(remote)
    try:
        _copy(remote, folder, bundle, images, options)
        done = _run(remote, f"sh {shlex.quote(folder)}/run.sh", quiet=False)
        return _answer(remote, done)
    finally:
        _run(remote, f"rm -rf -- {shlex.quote(folder)}")


def _make_folder(remote: Remote) -> str:
    made = f'folder=$(mktemp -d "${{TMPDIR:-/tmp}}/{_FOLDER}XXXXXX")'
    done = _run(remote, f"{made} && printf '\\n%s%s\\n' '{_MARK}' \"$folder\"")
    folder = os.fsdecode(_said(done.stdout))
    # It is removed in the end: be sure that it is what was asked for.
    if done.returncode or not (folder.startswith("/") and folder.rpartition("/")[2].startswith(_FOLDER)):
        raise MachineError(f"{remote.host} cannot make a temporary folder: {_last_line(done.stderr)}")
    return folder


def _copy(remote: Remote, folder: str, bundle: Path, images: Sequence[Path], options: Sequence[str]) -> None:
    """Send one archive: the bundle, each image in a folder of its own, and the command line as a script."""
    copies = [f"images/{number}/{path.name}" for number, path in enumerate(images)]
    words = ["bench", *(f"./{copy}" for copy in copies), "--bundle", f"bundle/{bundle.name}", *options, "--json"]
    home, program = ('"$HOME"/', remote.program[2:]) if remote.program.startswith("~/") else ("", remote.program)
    mark = f'printf "\\n%s" "{_MARK}"'
    script = f'cd "$(dirname "$0")" && {mark} && {home}{shlex.quote(program)} {shlex.join(words)}\nexit $?\n'
    sender = _start(remote, f"tar -xf - -C {shlex.quote(folder)}", stdin=subprocess.PIPE)
    assert sender.stdin is not None
    broken: OSError | None = None
    try:
        with tarfile.open(fileobj=sender.stdin, mode="w|") as archive:
            archive.add(bundle, f"bundle/{bundle.name}")
            for path, copy in zip(images, copies, strict=True):
                archive.add(path.resolve(), copy)
            _add_text(archive, "run.sh", script)
    except BrokenPipeError:
        pass  # it has ended; why is told below
    except OSError as exc:
        broken = exc
    _, complaints = sender.communicate()
    if broken is not None:
        raise InputError(f"{broken.filename} cannot be read ({broken.strerror or broken})") from broken
    if sender.returncode:
        raise MachineError(f"nothing can be copied to {remote.host}: {_last_line(complaints)}")


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = os.fsencode(text)
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _answer(remote: Remote, done: subprocess.CompletedProcess[bytes]) -> Answer:
    if done.returncode == _NOT_FOUND:
        raise MachineError(
            f"{remote.host} finds no {remote.program!r}; install it there (pip install slimscan), or say where it is "
            "with --remote-program"
        )
    if done.returncode not in (EXIT_DONE, EXIT_GATE_FAILED, EXIT_GATE_INCONCLUSIVE):
        kind: type[SlimscanError] = InputError if done.returncode == EXIT_BAD_INPUT else MachineError
        raise kind(f"slimscan bench ended with exit code {done.returncode} on {remote.host}; it says why above")
    try:
        table = json.loads(_said(done.stdout))
    except ValueError as exc:
        raise MachineError(f"{remote.host} printed no record; is {remote.program!r} slimscan there?") from exc
    return Answer(table=table, exit_code=done.returncode)


def _said(output: bytes) -> bytes:
    """The line that begins with the mark, without it; empty if there is none."""
    lines = [line for line in output.split(b"\n") if line.startswith(_MARK.encode())]
    return lines[-1].removeprefix(_MARK.encode()) if lines else b""


def _run(remote: Remote, command: str, *, quiet: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run a command of its shell; what it complains of is kept, or shown as it comes.

    Raises:
        MachineError: There is no SSH client, or it does not reach the machine.
    """
    child = _start(remote, command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE if quiet else None)
    stdout, stderr = child.communicate()
    if child.returncode == _SSH_FAILED:
        why = _last_line(stderr) if quiet else "it says why above"
        raise MachineError(f"ssh does not reach {remote.host}, or lost it: {why}")
    return subprocess.CompletedProcess(child.args, child.returncode, stdout, stderr)


def _start(
    remote: Remote, command: str, *, stdin: int, stderr: int | None = subprocess.PIPE
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            # whichever shell it is that the words come to there
            [*remote.ssh, "--", remote.host, f"sh -c {shlex.quote(command)}"],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    except OSError as exc:
        raise MachineError(
            f"{remote.ssh[0]} cannot be run ({exc.strerror}); install an SSH client, or name one with --ssh"
        ) from exc


def _last_line(complaints: bytes | None) -> str:
    text = (complaints or b"").decode(errors="replace")
    return (text.strip().splitlines() or ["it said nothing"])[-1]
