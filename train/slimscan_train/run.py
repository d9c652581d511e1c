"""A run: the folder that training leaves and that export and comparison start from.

config.toml            all that was asked
split.json             every image with label, patient, split and content hash
data.json              where the data set lay, how it was read, what could not be read, the teachers, ImageNet weights
history.csv            one row an epoch
model.keras            the float model
operating_point.json   temperature, bias and threshold, chosen on validation
scores.csv             one row an image and named shift: split, shift, patient, label, group, both logits
report.html            the same for people
logs/, checkpoint/     TensorBoard's, and what a stopped run resumes from
"""

import csv
import io
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.atomic import write_atomically
from slimscan_edge.errors import InputError
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_edge.records import from_mapping
from slimscan_train.augment import AugmentConfig, larger
from slimscan_train.config import TrainConfig, config_from
from slimscan_train.dataset import LabelledImage, Reading
from slimscan_train.lungs.surroundings import SWAPS, swapped_pixels
from slimscan_train.pixels import load_pixels
from slimscan_train.quiet import load_tensorflow
from slimscan_train.shifts import SHIFTS
from slimscan_train.split import Split, read_split

ParsedT = TypeVar("ParsedT")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One row of `scores.csv`: the float model's logits for one image, as it is (`shift` "") or shifted.

    `logit` is the decision's, `subtype_logit` the second output's; NaN when there is none.
    """

    image: str
    split: str
    shift: str
    patient: str
    label: str
    group: str
    logit: float
    subtype_logit: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run.

    Attributes:
        folder: Where it lies.
        config: What was asked.
        split: Who trained and who judged.
        data_root: Folder of the data set, absolute.
        operating_point: Of the float model.
        teachers: Folders of the runs that taught it, absolute; none for a model that learnt from labels alone.
        lungs: Folder of lung outlines, absolute; None for a run without.
    """

    folder: Path
    config: TrainConfig
    split: Split
    data_root: Path
    operating_point: OperatingPoint
    teachers: tuple[Path, ...] = ()
    lungs: Path | None = None

    @property
    def shifts(self) -> tuple[str, ...]:
        """The named shifts that its validation images are scored under, other surroundings among them."""
        return (*SHIFTS, *(SWAPS if self.lungs else ()))

    def model(self) -> Any:
        """The float Keras model; loads TensorFlow.

        Raises:
            InputError: `model.keras` is absent or damaged.
        """
        load_tensorflow()
        import tf_keras

        path = self.folder / "model.keras"
        try:
            return tf_keras.models.load_model(path, compile=False)
        except (OSError, ValueError, KeyError) as exc:
            raise InputError(f"{path} cannot be read as a model ({exc}); put it back, or train anew") from exc

    def pixels(self, images: Sequence[LabelledImage], shift: str = "") -> NDArray[np.uint8]:
        """Preprocessed pixels of images of this run, uint8 `[N, H, W, C]`, under a named shift or as they are.

        Raises:
            InputError: An image that trained or judged can no longer be read.
        """
        return held_out_pixels(self.data_root, self.split, images, self.config.preprocess, shift, self.lungs)


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        InputError: The folder is no run, its training has not ended, or one of its files is damaged.
    """
    if not (folder / "config.toml").exists():
        raise InputError(f"{folder} is not a run (it has no config.toml); make one with: slimscan train DATA --out RUN")
    if not (folder / "operating_point.json").exists():
        raise InputError(f"the training in {folder} has not ended; go on with: slimscan train DATA --out RUN --resume")
    return Run(
        folder=folder,
        config=read_config(folder),
        split=read_split(folder / "split.json"),
        data_root=_parsed(folder / "data.json", lambda text: Path(json.loads(text)["root"])),
        teachers=recorded_teachers(folder),
        lungs=recorded_lungs(folder),
        operating_point=read_operating_point(folder / "operating_point.json"),
    )


def read_config(folder: Path) -> TrainConfig:
    """What was asked of a run, as its `config.toml` says.

    Raises:
        InputError: The file is absent or damaged.
    """
    path = folder / "config.toml"
    return config_from(_parsed(path, tomllib.loads), where=str(path))


def recorded_teachers(folder: Path) -> tuple[Path, ...]:
    """The folders of the runs that teach a run, as its `data.json` says.

    Raises:
        InputError: The file is absent or damaged.
    """
    return _parsed(
        folder / "data.json", lambda text: tuple(Path(teacher) for teacher in json.loads(text).get("teachers", ()))
    )


def recorded_reading(folder: Path) -> Reading | None:
    """How the data set of a run was asked to be read, as its `data.json` says; None when it does not say.

    Raises:
        InputError: The file is absent or damaged.
    """
    table = _parsed(folder / "data.json", json.loads)
    if not isinstance(table, dict) or "reading" not in table:
        return None
    return _parsed(folder / "data.json", lambda text: Reading.from_table(json.loads(text)["reading"]))


def recorded_weights(folder: Path) -> Path | None:
    """The file of ImageNet weights that a run starts from, as its `data.json` says; None when none was given.

    Raises:
        InputError: The file is absent or damaged.
    """
    given = _parsed(folder / "data.json", lambda text: json.loads(text).get("weights"))
    return Path(given) if given else None


def recorded_lungs(folder: Path) -> Path | None:
    """The folder of lung outlines of a run, as its `data.json` says; None when there was none.

    Raises:
        InputError: The file is absent or damaged.
    """
    given = _parsed(folder / "data.json", lambda text: json.loads(text).get("lungs"))
    return Path(given) if given else None


def held_out_pixels(
    root: Path,
    split: Split,
    images: Sequence[LabelledImage],
    spec: PreprocessSpec,
    shift: str = "",
    lungs: Path | None = None,
) -> NDArray[np.uint8]:
    """As `read_pixels`, also in other surroundings (`slimscan_train.lungs.surroundings.SWAPS`).

    Raises:
        InputError: An image cannot be read, or no outlines of the lungs are known.
    """
    if shift not in SWAPS:
        return read_pixels(root, images, spec, shift)
    if lungs is None:
        raise InputError(f"{shift} needs outlines of the lungs; train with --lungs DIR")
    as_it_is = larger(spec, AugmentConfig())
    return swapped_pixels(lambda of: read_pixels(root, of, as_it_is), split, lungs, images, spec, shift)


def read_pixels(
    root: Path, images: Sequence[LabelledImage], spec: PreprocessSpec, shift: str = ""
) -> NDArray[np.uint8]:
    """Preprocessed pixels of a data set's images, uint8 `[N, H, W, C]`; every one must be readable.

    Raises:
        InputError: An image cannot be read.
    """
    files = [root / image.path for image in images]
    absent = [file for file in files if not file.exists()]
    if absent:
        raise InputError(f"{absent[0]} and {len(absent) - 1} more images are gone; put the data set back to {root}")
    pixels, bad = load_pixels(
        files,
        [image.sha256 for image in images],
        spec,
        shift=SHIFTS[shift] if shift else None,
        shift_name=shift,
    )
    if bad:
        raise InputError(f"{len(bad)} images cannot be read: {bad[0].reason}")
    return pixels


def read_operating_point(path: Path) -> OperatingPoint:
    """Read an `operating_point.json`.

    Raises:
        InputError: It is not JSON, or holds what it should not.
    """
    return from_mapping(OperatingPoint, _parsed(path, json.loads), where=str(path))


def write_operating_point(path: Path, point: OperatingPoint) -> None:
    """Write an `operating_point.json`; its presence says that a run is finished."""
    write_atomically(path, (json.dumps(asdict(point), indent=1) + "\n").encode())


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Write a `scores.csv`."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [field.name for field in fields(ScoreRow)])
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    write_atomically(path, text.getvalue().encode())


def read_scores(path: Path) -> list[ScoreRow]:
    """Read a `scores.csv`.

    Raises:
        InputError: The file is absent or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                from_mapping(
                    ScoreRow, {k: float(v) if k.endswith("logit") else v for k, v in row.items()}, where=str(path)
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError, TypeError) as exc:  # a row that was cut off lacks its last values
        raise InputError(f"{path} cannot be read as scores ({exc})") from exc


def _parsed(path: Path, parse: Callable[[str], ParsedT]) -> ParsedT:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise InputError(f"{path} is absent or damaged ({exc}); put it back, or train anew") from exc
