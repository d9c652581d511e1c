"""An environment of its own for each peer, made once and kept in the user's cache folder."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from slimscan_edge.errors import MachineError

INSTALL = (
    "-m pip --quiet --no-input --disable-pip-version-check install --no-deps --require-hashes --only-binary=:all: -r"
)
INSTALL_SECONDS = 1800
PYTHON = "python3.11"
"""What the pinned packages are resolved for."""


def environment_python(requirements: Path, *, cache: Path, note: Callable[[str], None] = lambda _: None) -> Path:
    """The interpreter of an environment with pinned packages; other packages make another environment.

    Args:
        requirements: Pinned, with hashes.
        cache: Folder that environments are kept in.
        note: Told when one is made, which takes minutes.

    Raises:
        MachineError: It cannot be made here: no such Python, or a package that cannot be had.
    """
    base = shutil.which(PYTHON) or sys.executable
    digest = hashlib.sha256(requirements.read_bytes() + base.encode()).hexdigest()
    folder = cache / "peers" / f"{requirements.stem}-{digest[:12]}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        note(f"installing {requirements.name} into an environment of its own")
        try:
            _run(base, "-m", "venv", "--clear", str(folder))
            _run(str(python), *INSTALL.split(), str(requirements))
        except (OSError, subprocess.SubprocessError) as exc:
            shutil.rmtree(folder, ignore_errors=True)
            raise MachineError(f"{requirements.name} cannot be installed: {_last_line(exc)}") from exc
        complete.touch()
    return python


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)


def _last_line(exc: Exception) -> str:
    said = (getattr(exc, "stderr", "") or str(exc)).strip().splitlines()
    return said[-1] if said else type(exc).__name__
