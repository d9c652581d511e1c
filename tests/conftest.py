"""What several stages' tests share: the golden bundle and, where it is, the real data."""

import os
import signal
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from slimscan_edge.bundle import Bundle, read_bundle
from slimscan_edge.classifier import Classifier

# Tests assert behaviour, never time: on a busy machine a slow example is not a failed one.
settings.register_profile("slimscan", deadline=None)
settings.load_profile("slimscan")

# Started in the background or by nohup, signals are ignored, by all that the tests start too; these are sent in tests.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

REPOSITORY = Path(__file__).parents[1]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say before the closing line what was skipped and why; a reason ends with the command that mends it."""
    reasons = Counter(
        " ".join(report.longrepr[2].removeprefix("Skipped: ").split())
        for report in terminalreporter.stats.get("skipped", ())
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")


@pytest.fixture(scope="session")
def golden_bundle_path() -> Path:
    """The committed bundle whose answer is the brightness of a picture; see tests/golden/regenerate.py."""
    return REPOSITORY / "tests" / "golden" / "brightness-1.0.0.slimscan"


@pytest.fixture(scope="session")
def golden_bundle(golden_bundle_path: Path) -> Bundle:
    return read_bundle(golden_bundle_path)


@pytest.fixture(scope="session")
def classifier(golden_bundle: Bundle) -> Classifier:
    return Classifier(golden_bundle, threads=1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real X-rays, which is no part of the project."""
    folder = Path(os.environ.get("SLIMSCAN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "chest_xray_fullsize").is_dir():
        pytest.skip(f"no real X-rays in {folder}; set SLIMSCAN_SHARED_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that any network learns: a bright square (sick) or a dark one (normal) somewhere on noise.

    Of 420 children of each class, with `squares_recipe`, 189 of the sick are held out: enough for the strict gate on
    new misses, which needs 149.
    """
    folder = tmp_path_factory.mktemp("squares-data")
    for name in ("NORMAL", "PNEUMONIA"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(1, 421):
        subtype = ("virus", "bacteria")[number % 2]
        _draw_square(rng, 30, folder / "NORMAL" / f"IM-{number:04d}-0001.png")
        _draw_square(rng, 220, folder / "PNEUMONIA" / f"person{number}_{subtype}_{number}.png")
    return folder


def _draw_square(rng: np.random.Generator, level: int, path: Path) -> None:
    pixels = rng.integers(88, 168, (72, 72), dtype=np.uint8)
    top, left = rng.integers(6, 36, 2)
    pixels[top : top + 30, left : left + 30] = level
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def squares_recipe() -> dict[str, Any]:
    """What learns `squares` in seconds, as the tables of a recipe; weak augmentation leaves bright bright.

    No margin: it would be resampled once more than on the device, and noise is finer each time.
    """
    still = {
        "margin": 1.0,
        "crop_area_min": 0.9,
        "rotation_deg": 0.0,
        "gamma": 0.0,
        "contrast": 0.0,
        "exposure": 0.0,
        "blur": 0.0,
    }
    return {
        "preprocess": {"height": 48, "width": 48},
        "split": {"val_fraction": 0.3, "shift_fraction": 0.15},
        "model": {"width": 0.2},
        "augment": still,
        "fit": {"epochs": 12, "learning_rate": 0.02, "weight_average": 0.9, "batch": 32, "patience": 12},
        "operate": {"target_sensitivity": 1.0},
    }


@pytest.fixture(scope="session")
def squares_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The strict policy, but for what squares learnt in seconds cannot keep: shifts change most of what they are."""
    import tomli_w

    from slimscan_export.policy import policies

    tables = tomllib.loads(policies()["strict"].read_text())
    for table in ("subgroups", "shifts"):
        tables[table] = {gate: {"observed": 0.45, "margin": 0.49} for gate in tables[table]}
    for negatives in ("new_false_alarms", "specificity"):  # the threshold lies where the worst shift puts it
        tables["whole"][negatives] = {"observed": 0.08, "margin": 0.10}
    tables["model"]["near_threshold"] = 0.5
    path = tmp_path_factory.mktemp("policy") / "squares.toml"
    path.write_text(tomli_w.dumps({**tables, "name": "squares"}))
    return path
