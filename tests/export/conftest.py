"""A finished run on pictures that any network tells apart, and its model in every precision: made once a session."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slimscan_export.calibration import CalibrationConfig
from slimscan_export.exporting import ExportConfig
from slimscan_train.config import TrainConfig, config_from
from slimscan_train.run import Run

CHILDREN = 420
"""Of each class. Held out are 45 %: 189 positives, more than the 149 that the gate on new misses needs."""
SIDE = 48
RECIPE = {
    "preprocess": {"height": 32, "width": 32},
    "split": {"val_fraction": 0.3, "shift_fraction": 0.15},
    "model": {"width": 0.2},
    "augment": {"crop_area_min": 0.9, "rotation_deg": 0.0, "gamma": 0.0, "contrast": 0.0, "exposure": 0.0, "blur": 0.0},
    "fit": {"epochs": 8, "learning_rate": 0.005, "weight_average": 0.9, "batch": 32, "patience": 8},
    "operate": {"target_sensitivity": 1.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The session's run with what is costly to make from it; `pixels` are every fifth of validation, both classes."""

    run: Run
    model: Any
    pixels: NDArray[np.uint8]
    calibration: NDArray[np.uint8]
    variants: dict[str, bytes]


def draw_squares(folder: Path, *, children: int) -> None:
    """A bright square (pneumonia) or a dark one (normal) somewhere on noise, named like the reference data."""
    rng = np.random.default_rng(0)
    for number in range(1, children + 1):
        for name, level in (
            (f"NORMAL/IM-{number:04d}-0001.png", 30),
            (f"PNEUMONIA/person{number}_{('virus', 'bacteria')[number % 2]}_{number}.png", 220),
        ):
            pixels = rng.integers(88, 168, (SIDE, SIDE), dtype=np.uint8)
            top, left = rng.integers(4, SIDE - 24, 2)
            pixels[top : top + 20, left : left + 20] = level
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMSCAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    return config_from(RECIPE, where="tests")


@pytest.fixture(scope="session")
def squares_run(tmp_path_factory: pytest.TempPathFactory, config: TrainConfig) -> Run:
    from slimscan_train.dataset import read_dataset
    from slimscan_train.training import Progress, start_run, train_run

    folder = tmp_path_factory.mktemp("squares")
    draw_squares(folder / "data", children=CHILDREN)
    dataset = read_dataset(folder / "data")
    split = start_run(dataset, config, folder / "run", given_split=None, max_unreadable=0.0)
    quiet = Progress(note=lambda _: None, epoch=lambda _: None)
    return train_run(folder / "run", config, split, dataset.root, quiet)


@pytest.fixture(scope="session")
def exported(squares_run: Run) -> Exported:
    from slimscan_export.calibration import draw_calibration
    from slimscan_export.convert import PRECISIONS, convert, saved_model

    calibration = squares_run.pixels(draw_calibration(squares_run.split, CalibrationConfig(images=64)))
    model = squares_run.model()
    with saved_model(model) as saved:
        variants = {precision: convert(saved, precision, calibration) for precision in PRECISIONS}
    return Exported(
        run=squares_run,
        model=model,
        pixels=squares_run.pixels(squares_run.split.select("val")[::5]),
        calibration=calibration,
        variants=variants,
    )


@pytest.fixture
def export_config() -> ExportConfig:
    return ExportConfig(name="squares", version="0.1.0", calibration=CalibrationConfig(images=64))


@pytest.fixture
def copy_run(squares_run: Run, tmp_path: Path) -> Callable[[], Path]:
    """A copy of the run's folder to do damage to."""

    def copied() -> Path:
        return Path(shutil.copytree(squares_run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint")))

    return copied
