"""Two small pictures to measure on, and a planted run of peers, every figure of which is known."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_bench.benchmark import ImageFile
from slimscan_bench.environment import read_environment
from slimscan_bench.peers.comparison import FreshStart, PeerComparison, PeerFailure, PeerRun
from slimscan_bench.peers.roster import ROSTER

IMAGES, ROUNDS = 10, 4


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """A dark and a bright grey picture, as files."""
    paths = [tmp_path / f"grey{level}.jpeg" for level in (60, 200)]
    for path, level in zip(paths, (60, 200), strict=True):
        Image.fromarray(np.full((90, 120), level, np.uint8)).save(path)
    return paths


def planted_run(
    name: str, *, ms: float, start_ms: float, memory: float, wrong: int = 0, stages: bool = True
) -> PeerRun:
    """Image `i` takes `1 + i` times `ms` in every round; the first `wrong` images are decided otherwise."""
    wall = tuple(tuple(round(1000 * ms * (1 + i)) for i in range(IMAGES)) for _ in range(ROUNDS))
    half = tuple(tuple(value // 2 for value in row) for row in wall)
    positive = [(i % 2 == 1) != (i < wrong) for i in range(IMAGES)]
    return PeerRun(
        name=name,
        title=ROSTER[name].title,
        way=ROSTER[name].way,
        model_size_bytes=1000,
        versions={"numpy": "2.0"},
        probabilities=tuple(0.9 if one else 0.1 for one in positive),
        decisions=tuple("positive" if one else "negative" for one in positive),
        wall_us=wall,
        cpu_us=wall,
        stages_us={"decode": half} if stages else {},
        starts=tuple(
            FreshStart(ready_ms=start_ms / 2, first_answer_ms=start_ms, peak_memory_mib=memory) for _ in range(3)
        ),
        peak_memory_mib=memory,
    )


@pytest.fixture
def planted() -> Callable[..., PeerComparison]:
    """Of runs by name, as `planted_run` takes them; ours, the floor, a LiteRT script and TensorFlow by default."""
    here = read_environment(interpreter="some_interpreter 1.0")

    def build(**changed: dict[str, float]) -> PeerComparison:
        figures = {
            "slimscan": {"ms": 1.0, "start_ms": 100.0, "memory": 50.0},
            "floor": {"ms": 1.0, "start_ms": 90.0, "memory": 45.0},
            "litert": {"ms": 2.0, "start_ms": 120.0, "memory": 55.0},
            "tensorflow": {"ms": 3.0, "start_ms": 2000.0, "memory": 600.0},
            **changed,
        }
        return PeerComparison(
            command="slimscan peers images",
            started="2026-11-22T00:00:00+00:00",
            slimscan="0.2.0",
            bundle_id="b-1.0.0",
            bundle_sha256="00" * 32,
            macs=43_000_000,
            threads=1,
            processes=1,
            warmup=1,
            seed=0,
            labels=("NORMAL", "SICK"),
            calibration="",
            images=tuple(
                ImageFile(name=f"{i}.jpeg", width=400 * (1 + i), height=300, mode="L", size_bytes=1000)
                for i in range(IMAGES)
            ),
            truths=tuple(i % 2 == 1 for i in range(IMAGES)),
            left_out=(),
            runs=tuple(planted_run(name, **values) for name, values in figures.items()),  # type: ignore[arg-type]
            failures=(PeerFailure(name="openvino", title="OpenVINO", reason="no <wheel> can be had"),),
            thread_runs=(),
            environment=here,
            environment_after=here,
        )

    return build


@pytest.fixture
def level_images(tmp_path):
    """A dark and a bright picture in folders named by the golden bundle's labels, and one of another size."""
    from PIL import Image

    paths = []
    for folder, level, size in (("dark", 20, (64, 48)), ("bright", 240, (64, 48)), ("bright", 230, (640, 480))):
        path = tmp_path / folder / f"{level}.jpeg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((size[1], size[0]), level, np.uint8)).save(path)
        paths.append(path)
    return paths


@pytest.fixture
def fill_stdout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """To be called in the test, after pytest has put its own in place: standard output takes nothing any more."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here to write to")
    with Path("/dev/full").open("w", buffering=1) as full:
        yield lambda: monkeypatch.setattr(sys, "stdout", full)
