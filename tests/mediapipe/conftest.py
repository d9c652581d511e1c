"""An environment with MediaPipe Tasks, which cannot be installed beside TensorFlow's model optimisation."""

from pathlib import Path

import pytest

from slimscan_bench.peers.environments import environment_python
from slimscan_bench.peers.roster import FOLDER
from slimscan_edge.errors import MachineError
from slimscan_train.pixels import cache_folder


@pytest.fixture(scope="session")
def mediapipe_python() -> Path:
    """The interpreter of an environment with MediaPipe, as the peers of the benchmarks have it."""
    try:
        return environment_python(FOLDER / "mediapipe.txt", cache=cache_folder())
    except MachineError as exc:
        pytest.skip(f"no environment with MediaPipe can be made here: {exc}")
