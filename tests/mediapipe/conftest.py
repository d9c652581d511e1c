"""An environment with MediaPipe Tasks, which cannot be installed beside TensorFlow's model optimisation."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slimscan_train.pixels import cache_folder

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
INSTALL = "-m pip --quiet --no-input --disable-pip-version-check install --require-hashes --only-binary :all: -r"
INSTALL_SECONDS = 600


@pytest.fixture(scope="session")
def mediapipe_python() -> Path:
    """The interpreter of an environment with MediaPipe; made once and kept in the cache folder."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    folder = cache_folder() / "mediapipe" / digest[:12]
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        try:
            _run(sys.executable, "-m", "venv", "--clear", str(folder))
            _run(str(python), *INSTALL.split(), str(REQUIREMENTS))
        except (OSError, subprocess.SubprocessError) as exc:
            shutil.rmtree(folder, ignore_errors=True)
            said = (getattr(exc, "stderr", "") or str(exc)).strip().splitlines()
            pytest.skip(f"no environment with MediaPipe can be made here: {said[-1]}")
        complete.touch()
    return python


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
