"""A training run from data set to finished run folder."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.atomic import write_atomically
from slimscan_edge.errors import InputError
from slimscan_edge.operating_point import OperatingPoint
from slimscan_train.augment import larger
from slimscan_train.batches import TrainingSet, class_weights
from slimscan_train.config import TrainConfig, write_config
from slimscan_train.dataset import Dataset, LabelledImage
from slimscan_train.distillation import Teacher, teaching_split
from slimscan_train.fit import EpochRow, fit, predict_logits
from slimscan_train.imagenet import load_imagenet_weights
from slimscan_train.lungs.outlines import read_lung_boxes
from slimscan_train.lungs.surroundings import SWAPPED, SWAPS, measure_lungs
from slimscan_train.model import build_model
from slimscan_train.pixels import load_pixels, refuse_unreadable
from slimscan_train.quiet import load_tensorflow
from slimscan_train.run import (
    Run,
    ScoreRow,
    held_out_pixels,
    read_pixels,
    read_run,
    recorded_lungs,
    recorded_teachers,
    recorded_weights,
    write_operating_point,
    write_scores,
)
from slimscan_train.shifts import SHIFTS
from slimscan_train.split import UNREADABLE, Split, make_split, read_split, reuse_split, write_split
from slimscan_train.style import style_frequencies
from slimscan_train.subtypes import calibrate_subtypes
from slimscan_train.thresholds import ScoredSet, choose_operating_point

Score: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float64]]

VALIDATION = ("val", "val_shift")
"""Patients on whom thresholds are chosen; a `test` split never takes part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Who is told what while a run trains.

    Attributes:
        note: Told one line of plain text.
        epoch: Told each epoch's figures.
        step: Told epoch, step and steps in the epoch; None when nobody watches.
    """

    note: Callable[[str], None]
    epoch: Callable[[EpochRow], None]
    step: Callable[[int, int, int], None] | None = None


def start_run(
    dataset: Dataset,
    config: TrainConfig,
    folder: Path,
    *,
    given_split: Path | None,
    max_unreadable: float,
    teachers: Sequence[Path] = (),
    weights: Path | None = None,
    lungs: Path | None = None,
) -> Split:
    """Make a run's folder: the configuration, the split, and what cannot be read.

    A student shares the split of its teachers: it may not be judged on patients whom they learnt from.

    Args:
        dataset: What to train on.
        config: How.
        folder: The run's.
        given_split: A `split.json` to reuse; None for a new one.
        max_unreadable: Share of images that may be unreadable.
        teachers: Folders of the runs to learn from.
        weights: Where a network that has seen ImageNet finds what it learnt there; None for its package or download.
        lungs: Folder of lung outlines (`slimscan_train.lungs.outlines`); None where there are none.

    Returns:
        Who trains and who judges.

    Raises:
        InputError: The folder is none or not empty, the split does not fit, a teacher is no finished run, the weights
            are not those of the recipe's network, or too many images cannot be read.
        MachineError: The recipe's network starts from ImageNet weights, and they are not to be had.
    """
    _require_empty(folder)
    _require_weights(config, weights)
    if teachers:
        split = reuse_split(teaching_split([read_run(teacher) for teacher in teachers]), dataset)
    else:
        split = reuse_split(read_split(given_split), dataset) if given_split else make_split(dataset, config.split)
    if lungs:
        read_lung_boxes(lungs, split.images)
    _, bad = load_pixels(
        [dataset.file(image) for image in split.images], [image.sha256 for image in split.images], config.preprocess
    )
    bad = (*dataset.unreadable, *bad)
    refuse_unreadable(bad, len(split.images) + len(dataset.unreadable), max_unreadable)
    reasons = {image.path: image.reason for image in bad}
    images = tuple(
        replace(image, split=UNREADABLE) if str(dataset.file(image)) in reasons else image for image in split.images
    )
    split = replace(split, images=images)
    _write_data(
        folder,
        dataset.root,
        naming=dataset.naming,
        reading=dataset.reading.to_table(),
        unreadable=reasons,
        teachers=[str(teacher.resolve()) for teacher in teachers],
        weights=str(weights.resolve()) if weights else None,
        lungs=str(lungs.resolve()) if lungs else None,
    )
    write_split(folder / "split.json", split)
    write_config(folder / "config.toml", config)
    return split


def train_run(folder: Path, config: TrainConfig, split: Split, root: Path, progress: Progress) -> Run:
    """Train in a folder that `start_run` made, or go on where training was stopped, and finish the run.

    Args:
        folder: The run's folder.
        config: As written there.
        split: As written there.
        root: Folder of the data set.
        progress: Who is told what.

    Returns:
        The finished run.
    """
    _write_data(folder, root)  # a stopped run may go on after its data set was moved
    lungs = recorded_lungs(folder)
    train = training_set(split, config, root, progress.note, lungs)
    val = split.select("val")
    positive = _positives(split, val)
    teachers = [read_run(teacher) for teacher in recorded_teachers(folder)]
    model = fit(
        config,
        train,
        held_out_pixels(root, split, val, config.preprocess, SWAPS[0] if lungs else "", lungs),
        positive,
        folder,
        say=progress.epoch,
        watch=progress.step,
        teach=Teacher(teachers, config, train).teach if teachers else None,
        weights=recorded_weights(folder),
    )
    if config.model.outputs == 2:
        sick = [image for image in val if split.is_positive(image)]
        is_first = np.array([image.group == split.subtypes[0] for image in sick])
        calibrate_subtypes(model, predict_logits(model, read_pixels(root, sick, config.preprocess))[:, 1], is_first)
    model.save(folder / "model.keras")
    rows = score_rows(lambda pixels: predict_logits(model, pixels), config, split, root, progress.note, lungs)
    write_scores(folder / "scores.csv", rows)
    write_operating_point(folder / "operating_point.json", operating_point(rows, config, split.labels[1]))
    return read_run(folder)


def operating_point(
    rows: Sequence[ScoreRow], config: TrainConfig, positive: str, model: str = "float"
) -> OperatingPoint:
    """Choose the operating point on all validation scores: `val` first, `val_shift`, and each named shift.

    Where surroundings were swapped, `val` in other surroundings comes first instead: on it probabilities are calibrated
    and the least specificity is kept, for the frame cannot help there.

    Args:
        rows: One model's scores of held-out images; those of a `test` split are left out.
        config: With the sensitivity and the specificity to keep.
        positive: Name of the positive class.
        model: Which model's scores they are, in a word.
    """
    members: dict[tuple[str, str], list[ScoreRow]] = {}
    for row in sorted(rows, key=lambda row: (row.split, row.shift)):
        if row.split in VALIDATION:
            name = (SWAPPED[row.split], "") if row.shift in SWAPS else (row.split, row.shift)
            members.setdefault(name, []).append(row)
    first = next(name for name in ((SWAPPED["val"], ""), *members) if name in members)
    sets = [
        ScoredSet(
            logits=np.array([row.logit for row in found]),
            positive=np.array([row.label == positive for row in found]),
            patients=[row.patient for row in found],
        )
        for _, found in sorted(members.items(), key=lambda item: item[0] != first)
    ]
    images, patients = (len({getattr(row, of) for f in members.values() for row in f}) for of in ("image", "patient"))
    shifts = len([shift for _, shift in members if shift])
    return choose_operating_point(
        sets,
        target_sensitivity=config.operate.target_sensitivity,
        least_specificity=config.operate.least_specificity,
        chosen_on=f"{', '.join(dict.fromkeys(name for name, _ in members))} and {shifts} named image shifts: "
        f"{images} images of {patients} patients, {model} model",
    )


def training_set(
    split: Split, config: TrainConfig, root: Path, note: Callable[[str], None], lungs: Path | None = None
) -> TrainingSet:
    """The training images with targets and weights, as the configuration asks, and where their lungs lie.

    Raises:
        InputError: An image cannot be read, or there are no subtypes for a second output.
    """
    images = split.select("train")
    if config.fit.drop_duplicates:
        first = {image.sha256: image for image in reversed(images)}
        kept = tuple(image for image in images if first[image.sha256] is image)
        note(f"training on {len(kept):,} images, {len(images) - len(kept)} exact copies left out")
        images = kept
    positive = _positives(split, images)
    targets = positive.astype(np.float32)[:, None]
    if config.model.outputs == 2:
        targets = np.concatenate([targets, _subtype_targets(split, images)], axis=1)
    weights = class_weights(positive) if config.fit.balance == "weights" else np.ones(len(images), np.float32)
    pixels = np.asarray(read_pixels(root, images, larger(config.preprocess, config.augment)))
    boxes = read_lung_boxes(lungs, images) if lungs else None
    if boxes is not None:
        note(f"{np.isfinite(boxes).all(axis=1).sum():,} of {len(images):,} training images have outlines of the lungs")
    return TrainingSet(
        pixels=pixels,
        targets=targets,
        weights=weights,
        spec=config.preprocess,
        frequencies=style_frequencies(pixels, positive) if config.fit.balance == "style" else None,
        lungs=None if boxes is None else measure_lungs(pixels, boxes),
    )


def score_rows(
    score: Score,
    config: TrainConfig,
    split: Split,
    root: Path,
    note: Callable[[str], None],
    lungs: Path | None = None,
) -> list[ScoreRow]:
    """Score every held-out image as it is, validation images under each named shift, and in other surroundings.

    Args:
        score: From raw pixels uint8 `[N, H, W, C]` to logits float64 `[N, K]`.
        config: The run's, with its preprocessing.
        split: Who is held out.
        root: Folder of the data set.
        note: Told one line of plain text.
        lungs: Folder of lung outlines; None where there are none, and no surroundings to swap.
    """
    held_out = split.select("val", "val_shift", "test")
    note(f"scoring {len(held_out)} held-out images, and validation under {len(SHIFTS)} named shifts")
    rows = _rows(held_out, score(read_pixels(root, held_out, config.preprocess)), "")
    val = split.select("val")
    for shift in SHIFTS:
        rows += _rows(val, score(read_pixels(root, val, config.preprocess, shift)), shift)
    for swap in SWAPS if lungs else ():
        validated = split.select(*VALIDATION)
        rows += _rows(validated, score(held_out_pixels(root, split, validated, config.preprocess, swap, lungs)), swap)
    return rows


def _require_empty(folder: Path) -> None:
    try:
        holds = folder.exists() and next(folder.iterdir(), None)
    except OSError as exc:
        raise InputError(f"{folder} is no folder for a run ({exc.strerror}); give a new or an empty one") from exc
    if holds:
        raise InputError(f"{folder} is not empty; give another folder, or go on with --resume")


def _require_weights(config: TrainConfig, weights: Path | None) -> None:
    """Load the ImageNet weights that a training will start from once, so that it fails before it begins."""
    asked, spec = config.model, config.preprocess
    if asked.network != "slimscan":
        load_tensorflow()
        load_imagenet_weights(build_model(asked, spec.height, spec.width, spec.channels), asked.network, weights)
    elif weights:
        raise InputError(
            f"{weights} would not be used: the recipe's network starts from nothing; leave out --weights, or choose "
            "another with --set model.network=NAME"
        )


def _write_data(folder: Path, root: Path, **facts: Any) -> None:
    """Say in `data.json` where the data set lies, and what else is known of it; what stands there stays."""
    file = folder / "data.json"
    table = json.loads(file.read_text()) if file.exists() else {}
    if (table.get("reading") or {}).get("root"):
        table["reading"]["root"] = str(root.resolve())
    write_atomically(file, (json.dumps({**table, "root": str(root.resolve()), **facts}, indent=1) + "\n").encode())


def _rows(images: Sequence[LabelledImage], logits: NDArray[np.float64], shift: str) -> list[ScoreRow]:
    return [
        ScoreRow(
            image=image.path,
            split=image.split,
            shift=shift,
            patient=image.patient,
            label=image.label,
            group=image.group,
            logit=float(of_image[0]),
            subtype_logit=float(of_image[1]) if len(of_image) > 1 else math.nan,
        )
        for image, of_image in zip(images, logits, strict=True)
    ]


def _subtype_targets(split: Split, images: Sequence[LabelledImage]) -> NDArray[np.float32]:
    """1 for the first subtype, 0 for the second, NaN for negatives; float32 `[N, 1]`."""
    first, second = split.subtypes
    value = {first: 1.0, second: 0.0}
    targets = [value[image.group] if split.is_positive(image) else np.nan for image in images]
    return np.array(targets, np.float32)[:, None]


def _positives(split: Split, images: Sequence[LabelledImage]) -> NDArray[np.bool_]:
    return np.array([split.is_positive(image) for image in images])
