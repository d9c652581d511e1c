"""A finished run on pictures that any network tells apart, and its model in every precision: made once a session."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slimscan_export.calibration import CalibrationConfig
from slimscan_export.diagnosis import Diagnosis
from slimscan_export.exporting import ExportConfig
from slimscan_train.config import TrainConfig, config_from, write_config
from slimscan_train.run import Run, read_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The session's run with what is costly to make from it; `pixels` are every fifth of validation, both classes."""

    run: Run
    model: Any
    pixels: NDArray[np.uint8]
    calibration: NDArray[np.uint8]
    variants: dict[str, bytes]
    diagnosis: Diagnosis


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMSCAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def config(squares_recipe: dict[str, Any]) -> TrainConfig:
    return config_from(squares_recipe, where="tests")


@pytest.fixture(scope="session")
def squares_run(tmp_path_factory: pytest.TempPathFactory, config: TrainConfig, squares: Path) -> Run:
    """Trained by a process of its own: what ran in one before changes TensorFlow's sums, and so the network."""
    folder = tmp_path_factory.mktemp("squares")
    write_config(folder / "squares.toml", config)
    command = [Path(sys.executable).with_name("slimscan"), "train", squares, "--recipe", folder / "squares.toml"]
    subprocess.run([*command, "--out", folder / "run"], check=True, capture_output=True)
    return read_run(folder / "run")


@pytest.fixture(scope="session")
def exported(squares_run: Run) -> Exported:
    from slimscan_export.calibration import draw_calibration
    from slimscan_export.convert import PRECISIONS, convert, saved_model
    from slimscan_export.diagnosis import diagnose

    calibration = squares_run.pixels(draw_calibration(squares_run.split, CalibrationConfig(images=64)))
    model = squares_run.model()
    with saved_model(model) as saved:
        variants = {precision: convert(saved, precision, calibration) for precision in PRECISIONS}
        diagnosis = diagnose(saved, model, calibration)
    return Exported(
        run=squares_run,
        model=model,
        pixels=squares_run.pixels(squares_run.split.select("val")[::5]),
        calibration=calibration,
        variants=variants,
        diagnosis=diagnosis,
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


def rescaled(model: Any, pixels: NDArray[np.uint8], layer: str, norm: str, scale: float) -> Any:
    """The same float function with one input channel of a pointwise layer scaled up, and the norm before it down.

    The channel is one that stays away from the upper end of its ReLU6, so that the function is the same.
    """
    import tf_keras

    from slimscan_train.model import normalise_pixels

    copy = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    values = tf_keras.Model(model.inputs, model.get_layer(norm).output)(normalise_pixels(pixels), training=False)
    channel = int(np.argmin(np.abs(np.max(values, axis=(0, 1, 2)) - 2.0)))
    gain, offset, *statistics = copy.get_layer(norm).get_weights()
    (kernel,) = copy.get_layer(layer).get_weights()
    gain[channel] /= scale
    offset[channel] /= scale
    kernel[:, :, channel] *= scale
    copy.get_layer(norm).set_weights([gain, offset, *statistics])
    copy.get_layer(layer).set_weights([kernel])
    return copy


@pytest.fixture(scope="session")
def broken(exported: Exported) -> Any:
    """The session's model with the weights of `block5_pointwise` rescaled: in float the same, in int8 useless."""
    return rescaled(exported.model, exported.calibration, "block5_pointwise", "block5_depthwise_bn", 8000.0)


@pytest.fixture(scope="session")
def broken_run(broken: Any, squares_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken") / "run"
    shutil.copytree(squares_run.folder, folder, ignore=shutil.ignore_patterns("checkpoint", "logs"))
    (folder / "model.keras").unlink()
    broken.save(folder / "model.keras")
    return folder
