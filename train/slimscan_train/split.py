"""Who trains and who judges: a seeded split by patient, kept in `split.json` and reusable.

Four splits: `train`; `val`, random patients; `val_shift`, patients from the far end of each acquisition
series; and `test`, only where the data set itself names one. Patients who share an exact copy of an image
stay together.
"""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from slimscan_edge.atomic import write_atomically
from slimscan_edge.errors import InputError
from slimscan_edge.records import from_mapping
from slimscan_train.dataset import Dataset, LabelledImage

SCHEMA_VERSION = 1
SplitName = Literal["train", "val", "val_shift", "test"]
UNREADABLE = "unreadable"
"""In place of a split: an image that could not be decoded, listed in `split.json` and used nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitConfig:
    """How patients are split.

    Attributes:
        seed: Of the draw of `val` patients.
        val_fraction: Share of patients in `val`, drawn at random from each series.
        shift_fraction: Share of patients in `val_shift`: those with the highest numbers of each series, whole.
        shift_series: Series held out whole in `val_shift` instead.
        folds: Cross-validation: the patients outside `val_shift` fall into so many parts; 0 draws `val_fraction`.
        fold: Which part is `val`, from 0.
    """

    seed: int = 0
    val_fraction: float = 0.12
    shift_fraction: float = 0.1
    shift_series: tuple[str, ...] = ()
    folds: int = 0
    fold: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")
        if not 0 < self.val_fraction < 0.5 or not 0 <= self.shift_fraction < 0.5:
            raise ValueError(
                f"val_fraction {self.val_fraction} and shift_fraction {self.shift_fraction} must lie in 0 to 0.5"
            )
        if self.folds not in (0, *range(2, 21)) or not 0 <= self.fold < max(1, self.folds):
            raise ValueError(f"fold {self.fold} of {self.folds} folds, expected 2 to 20 folds counted from 0, or none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Each image of a data set with the split it is in, in the order of the data set.

    Attributes:
        labels: The negative and the positive class.
        naming: The rule that patients were read by.
        images: The records, their `split` filled in.
    """

    labels: tuple[str, str]
    naming: str
    images: tuple[LabelledImage, ...]

    def __post_init__(self) -> None:
        homes = defaultdict(set)
        for image in self.images:
            if image.split != UNREADABLE:
                homes[image.patient].add(image.split)
        torn = sorted(patient for patient, splits in homes.items() if len(splits) > 1)
        if torn:
            raise ValueError(f"{len(torn)} patients are in more than one split, {torn[0]} first")

    def select(self, *splits: str) -> tuple[LabelledImage, ...]:
        """The images of some splits, in order."""
        return tuple(image for image in self.images if image.split in splits)

    @property
    def subtypes(self) -> tuple[str, str]:
        """The two subgroups of the positive class, in alphabetical order.

        Raises:
            InputError: The positive class has not exactly two subgroups.
        """
        groups = sorted({image.group for image in self.images if self.is_positive(image)})
        if len(groups) != 2:
            raise InputError(
                f"class {self.labels[1]} has the subgroups {', '.join(groups)}, expected two; set model.outputs=1"
            )
        return groups[0], groups[1]

    def is_positive(self, image: LabelledImage) -> bool:
        """Whether an image is of the positive class."""
        return image.label == self.labels[1]

    def describe(self) -> str:
        """One line: images (positive) and patients of each split, and how many images could not be read."""
        parts = []
        for name in ("train", "val", "val_shift", "test"):
            images = self.select(name)
            if images:
                positive = sum(map(self.is_positive, images))
                patients = len({image.patient for image in images})
                parts.append(f"{name} {len(images):,} images ({positive:,} positive) of {patients:,} patients")
        if unreadable := len(self.select(UNREADABLE)):
            parts.append(f"{unreadable:,} UNREADABLE images left out")
        return "; ".join(parts)


def make_split(dataset: Dataset, config: SplitConfig) -> Split:
    """Split a data set by patient, stratified by acquisition series.

    A split that the data set itself names is kept: its `test` is never trained on, and its `val` replaces the
    random draw.

    Raises:
        InputError: A split ends up without images of both classes, the data set itself puts one patient in two
            splits or names the `val` that folds are to draw, or a series that is to be held out is not in it.
    """
    families = _families(dataset.images)
    chosen: dict[str, str] = {}
    given = {image.split for image in dataset.images}
    if config.folds and "val" in given:
        raise InputError("the data set names its own val, which every fold would share; give a CSV without splits")
    series_found = {image.series for image in dataset.images}
    if absent := sorted(set(config.shift_series) - series_found):
        raise InputError(f"no series {absent[0]!r} to hold out; the data set has {', '.join(sorted(series_found))}")
    for family, members in families.items():
        named = {image.split for image in members}
        if len(named) > 1:
            raise InputError(
                f"the data set puts {members[0].patient} (or an exact copy of an image) in more than one split; "
                "run: slimscan audit, then merge the folders or give a CSV without splits"
            )
        if named <= {"val", "test"}:
            chosen[family] = named.pop()
    by_series: dict[str, list[str]] = defaultdict(list)
    for family, members in families.items():
        if family not in chosen:
            by_series[members[0].series].append(family)
    rng = np.random.default_rng(config.seed)
    for series, names in sorted(by_series.items()):
        chosen.update(_shift_families(series, names, families, config))
        left = [name for name in names if name not in chosen]
        shuffled = [left[i] for i in rng.permutation(len(left))]
        drawn = set() if "val" in given else _drawn(shuffled, len(names), config)
        chosen.update({name: "val" if name in drawn else "train" for name in left})
    home = {image.path: chosen[family] for family, members in families.items() for image in members}
    split = Split(
        labels=dataset.labels,
        naming=dataset.naming,
        images=tuple(replace(image, split=home[image.path]) for image in dataset.images),
    )
    _require_both_classes(split)
    return split


def write_split(path: Path, split: Split) -> None:
    """Write `split.json`: every image with label, patient, split and content hash."""
    table = {
        "schema_version": SCHEMA_VERSION,
        "labels": split.labels,
        "naming": split.naming,
        "images": [asdict(image) for image in split.images],
    }
    write_atomically(path, (json.dumps(table, indent=0) + "\n").encode())


def read_split(path: Path) -> Split:
    """Read a `split.json`.

    Raises:
        InputError: It is absent, not JSON, of another schema version, or does not hold what it should.
    """
    table = _read_table(path)
    try:
        return Split(labels=tuple(table["labels"]), naming=table["naming"], images=_read_images(path, table))
    except (TypeError, ValueError) as exc:
        raise InputError(f"{path}: {exc}") from exc


def read_split_images(path: Path) -> tuple[LabelledImage, ...]:
    """The images of a `split.json` that may be at fault: a patient may be in two of its splits.

    Raises:
        InputError: As for `read_split`.
    """
    return _read_images(path, _read_table(path))


def reuse_split(split: Split, dataset: Dataset) -> Split:
    """Check that a split made earlier is of this very data set, image for image.

    Raises:
        InputError: An image was added, removed or changed since, or another class is positive.
    """
    if split.labels != dataset.labels:
        raise InputError(
            f"the split tells {split.labels[1]} (positive) from {split.labels[0]}, and in {dataset.root} "
            f"{dataset.labels[1]} is the positive class; say --positive, or make a new split"
        )
    before = {image.path: image.sha256 for image in split.images}
    now = {image.path: image.sha256 for image in dataset.images}
    changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    if changed:
        raise InputError(
            f"{len(changed)} images of {dataset.root} are not those of the split ({changed[0]} first); "
            "use the data set that the split was made from, or make a new split"
        )
    return split


def _read_table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} cannot be read as a split ({exc})") from exc
    version = table.get("schema_version") if isinstance(table, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path} has schema version {version!r}, expected {SCHEMA_VERSION}")
    if absent := {"labels", "naming", "images"} - table.keys():
        raise InputError(f"{path} is a split without {', '.join(sorted(absent))}; make a new one")
    return dict(table)


def _read_images(path: Path, table: dict[str, Any]) -> tuple[LabelledImage, ...]:
    if not isinstance(table["images"], list):
        raise InputError(f"{path}: images is {table['images']!r:.40}, expected a list")
    return tuple(from_mapping(LabelledImage, row, where=str(path)) for row in table["images"])


def _families(images: tuple[LabelledImage, ...]) -> dict[str, list[LabelledImage]]:
    """Patients joined wherever they share an exact copy of an image, by their first patient's name."""
    parent = {image.patient: image.patient for image in images}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    owner: dict[str, str] = {}
    for image in images:
        first = owner.setdefault(image.sha256, image.patient)
        one, other = sorted((root(first), root(image.patient)))
        parent[other] = one
    families: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        families[root(image.patient)].append(image)
    return dict(families)


def _drawn(shuffled: list[str], total: int, config: SplitConfig) -> set[str]:
    """Which of one series' families are `val`: one part of `folds`, or a share of `total`; never all of them."""
    if config.folds:
        return set(shuffled[config.fold :: config.folds]) if len(shuffled) > 1 else set()
    count = max(1, round(config.val_fraction * total))
    return set(shuffled[: min(count, len(shuffled) - 1)])


def _shift_families(
    series: str, names: list[str], families: dict[str, list[LabelledImage]], config: SplitConfig
) -> dict[str, str]:
    """The families of one series that go to `val_shift`: all, the latest numbers, or none if it has no numbers."""
    if series in config.shift_series:
        return dict.fromkeys(names, "val_shift")
    ordered = sorted(names, key=lambda name: (families[name][0].number, name))
    if families[ordered[-1]][0].number == 0:
        return {}
    count = round(config.shift_fraction * len(ordered))
    return dict.fromkeys(ordered[len(ordered) - count :], "val_shift")


def _require_both_classes(split: Split) -> None:
    for name in ("train", "val", "val_shift", "test"):
        classes = {image.label for image in split.select(name)}
        if len(classes) == 1 or (not classes and name in ("train", "val")):
            held = f"holds {classes.pop()} only" if classes else "is empty"
            hint = "set split.shift_fraction or split.shift_series, or give" if name == "val_shift" else "give"
            raise InputError(f"split {name!r} {held}, expected both classes; {hint} more patients of each class")
