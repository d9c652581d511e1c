"""A run in figures: all that its report says, computed from its scores, its history and its split."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from slimscan_edge.operating_point import OperatingPoint
from slimscan_train.evaluation import Evaluation
from slimscan_train.fit import EpochRow, kept_row, read_history
from slimscan_train.intervals import Estimate, clustered_auroc, proportion
from slimscan_train.lungs.surroundings import SWAPPED
from slimscan_train.reliability import ReliabilityBin, expected_calibration_error, reliability_bins
from slimscan_train.run import Run
from slimscan_train.split import Split, SplitName
from slimscan_train.subtypes import SubtypeSummary, summarise_subtypes

MOST_CASES = 8
"""Misses, and as many false alarms, that a report shows."""
MOST_PARTED = 0.05
"""Nats by which comparable losses may differ before a report says that they part."""
FINGERPRINTED = ("model.keras", "split.json", "scores.csv")
"""The files that a report is about; their SHA-256 ties it to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSummary:
    """One set of held-out images at the operating point.

    Attributes:
        split: Which patients; `val_swap` for those of `val` in other surroundings.
        shift: Named image shift, "" for the images as they are.
        images: How many, each counted once in however many surroundings.
        patients: How many.
        true_positives: Positives called positive.
        false_negatives: Positives called negative.
        true_negatives: Negatives called negative.
        false_positives: Negatives called positive.
        sensitivity: Share of positives called positive; None without a positive.
        specificity: Share of negatives called negative; None without a negative.
        auroc: Area under the receiver operating characteristic; None when a class is absent.
    """

    split: str
    shift: str
    images: int
    patients: int
    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int
    sensitivity: Estimate | None
    specificity: Estimate | None
    auroc: Estimate | None

    @property
    def name(self) -> str:
        """The split, and the shift in brackets."""
        return f"{self.split} ({self.shift})" if self.shift else self.split

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity, over the classes that are present."""
        return float(np.mean([share.value for share in (self.sensitivity, self.specificity) if share]))

    def shortfall(self, target: float) -> float:
        """By how much the sensitivity misses a target; 0 when it holds, or when there is no positive."""
        gap = target - self.sensitivity.value if self.sensitivity else 0.0
        return gap if gap > 1e-9 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """The images of one subgroup and one class.

    Attributes:
        split: Which patients.
        group: Name of the subgroup.
        label: Class of its images.
        images: How many.
        patients: How many.
        measure: "sensitivity" of a positive group, "specificity" of a negative one.
        right: That share.
    """

    split: str
    group: str
    label: str
    images: int
    patients: int
    measure: str
    right: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSummary:
    """Probabilities against what came true, of the logits as they are and calibrated."""

    split: str
    error_before: float
    error_after: float
    bins_before: tuple[ReliabilityBin, ...]
    bins_after: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningSummary:
    """How training went.

    Attributes:
        epochs: Trained.
        kept_epoch: The one whose weights were kept, counted from 0.
        train_plain_loss: Its cross-entropy on training images as they are.
        val_loss: Its cross-entropy on validation images.
        parted: Why the two losses are said to part; empty when they do not.
    """

    epochs: int
    kept_epoch: int
    train_plain_loss: float
    val_loss: float
    parted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One image that the model got wrong, with its calibrated probability of the positive label."""

    image: str
    split: str
    label: str
    group: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCount:
    """How many images, positives and patients a split holds."""

    split: str
    images: int
    positives: int
    patients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSummary:
    """What the run was trained and judged on.

    Attributes:
        name: Name of the data set's folder.
        labels: The negative and the positive class.
        naming: The rule that patients were read by.
        splits: Counts of each split that holds images.
        unreadable: Path and reason of each image that could not be read.
        copies: Paths of each set of images that are exact copies of each other.
        contradictory: How many of those sets bear both labels.
    """

    name: str
    labels: tuple[str, str]
    naming: str
    splits: tuple[SplitCount, ...]
    unreadable: dict[str, str]
    copies: tuple[tuple[str, ...], ...]
    contradictory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run in figures.

    Attributes:
        run: Name of its folder.
        operating_point: The one locked operating point of all figures.
        sets: Held-out images as they are, then the named shifts.
        worst_shift: The named shift with the least balanced accuracy, None without named shifts.
        groups: Subgroups of each split.
        subtypes: Of each split, when the model tells subtypes apart.
        calibration: Of each split that holds both classes.
        learning: How training went, None without a history.
        misses: The positives called negative with the lowest probabilities, worst first.
        false_alarms: The negatives called positive with the highest probabilities, worst first.
        data: What it was trained and judged on.
        config: All that was asked, by table and key.
        sha256: Of the run's files that this is about.
    """

    run: str
    operating_point: OperatingPoint
    sets: tuple[SetSummary, ...]
    worst_shift: str | None
    groups: tuple[GroupSummary, ...]
    subtypes: tuple[SubtypeSummary, ...]
    calibration: tuple[CalibrationSummary, ...]
    learning: LearningSummary | None
    misses: tuple[Case, ...]
    false_alarms: tuple[Case, ...]
    data: DataSummary
    config: dict[str, dict[str, Any]]
    sha256: dict[str, str]

    @property
    def below_target(self) -> tuple[SetSummary, ...]:
        """The sets on which the target sensitivity is missed, in the order of `sets`."""
        return tuple(found for found in self.sets if found.shortfall(self.operating_point.target_sensitivity))


def summarise(run: Run, evaluations: Sequence[Evaluation]) -> RunSummary:
    """Compute all figures of a finished run.

    Args:
        run: The run.
        evaluations: Of its scores, in the order to be kept.
    """
    plain = [found for found in evaluations if not found.shift and found.split not in SWAPPED.values()]
    sets = tuple(_set(found) for found in evaluations)
    misses, false_alarms = _wrong(plain)
    return RunSummary(
        run=run.folder.resolve().name,
        operating_point=run.operating_point,
        sets=sets,
        worst_shift=_worst([found for found in sets if found.shift]),
        groups=tuple(group for found in plain for group in _groups(found)),
        subtypes=tuple(_subtypes(run, plain)),
        calibration=tuple(_calibration(found) for found in plain if 0 < found.positive.sum() < len(found.positive)),
        learning=_learning(read_history(run.folder)),
        misses=misses,
        false_alarms=false_alarms,
        data=_data(run),
        config=asdict(run.config),
        sha256={name: _sha256(run, name) for name in FINGERPRINTED},
    )


def why_parted(rows: Sequence[EpochRow]) -> tuple[str, ...]:
    """Why training and validation loss are said to part, in sentences; none when they stay together.

    The rule: they part when, at the kept epoch, the validation loss is more than `MOST_PARTED` above the training
    loss on images as they are; or when the last epoch's validation loss is that much above the kept one's.
    """
    kept = kept_row(rows)
    gap, rise = kept.val_loss - kept.train_plain_loss, rows[-1].val_loss - kept.val_loss
    reasons = []
    if gap > MOST_PARTED:
        reasons.append(
            f"At the kept epoch the validation loss ({kept.val_loss:.3f}) is {gap:.3f} above the training loss "
            f"({kept.train_plain_loss:.3f}): the model knows its training images better than new ones."
        )
    if rise > MOST_PARTED:
        reasons.append(
            f"After the kept epoch the validation loss rose by {rise:.3f} to {rows[-1].val_loss:.3f}: "
            "training went on past what the data could teach."
        )
    return tuple(reasons)


def _set(found: Evaluation) -> SetSummary:
    called, positive = found.logits >= found.point.logit_threshold, found.positive
    hits, clears = int((called & positive).sum()), int((~called & ~positive).sum())
    positives, negatives = int(positive.sum()), int((~positive).sum())
    draws = found.draws  # of one image are no more images: intervals count each once
    return SetSummary(
        split=found.split,
        shift=found.shift,
        images=len(found.rows) // draws,
        patients=len({row.patient for row in found.rows}),
        true_positives=hits,
        false_negatives=positives - hits,
        true_negatives=clears,
        false_positives=negatives - clears,
        sensitivity=proportion(round(hits / draws), positives // draws),
        specificity=proportion(round(clears / draws), negatives // draws),
        auroc=clustered_auroc(positive, found.logits, [row.patient for row in found.rows]),
    )


def _worst(shifts: Sequence[SetSummary]) -> str | None:
    return min(shifts, key=lambda found: found.balanced_accuracy).shift if shifts else None


def _groups(found: Evaluation) -> Iterable[GroupSummary]:
    called = found.logits >= found.point.logit_threshold
    members = defaultdict(list)
    for index, row in enumerate(found.rows):
        members[row.group, row.label].append(index)
    for (group, label), indices in sorted(members.items()):
        is_positive = bool(found.positive[indices[0]])
        right = proportion(int((called[indices] == is_positive).sum()), len(indices))
        assert right  # a group has a member
        yield GroupSummary(
            split=found.split,
            group=group,
            label=label,
            images=len(indices),
            patients=len({found.rows[index].patient for index in indices}),
            measure="sensitivity" if is_positive else "specificity",
            right=right,
        )


def _subtypes(run: Run, plain: Sequence[Evaluation]) -> Iterable[SubtypeSummary]:
    if run.config.model.outputs == 2:
        for found in plain:
            if summary := summarise_subtypes(found, run.split.subtypes):
                yield summary


def _calibration(found: Evaluation) -> CalibrationSummary:
    from scipy.special import expit

    before = reliability_bins(expit(found.logits), found.positive)
    after = reliability_bins(expit(found.calibrated), found.positive)
    return CalibrationSummary(
        split=found.split,
        error_before=expected_calibration_error(before),
        error_after=expected_calibration_error(after),
        bins_before=before,
        bins_after=after,
    )


def _learning(rows: Sequence[EpochRow]) -> LearningSummary | None:
    if not rows:
        return None
    kept = kept_row(rows)
    return LearningSummary(
        epochs=len(rows),
        kept_epoch=kept.epoch,
        train_plain_loss=kept.train_plain_loss,
        val_loss=kept.val_loss,
        parted=why_parted(rows),
    )


def _wrong(evaluations: Iterable[Evaluation]) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """The worst misses and the worst false alarms, at most `MOST_CASES` of each."""
    misses: list[Case] = []
    false_alarms: list[Case] = []
    for found in evaluations:
        called = found.logits >= found.point.logit_threshold
        for index in np.flatnonzero(called != found.positive):
            row = found.rows[index]
            case = Case(
                image=row.image,
                split=row.split,
                label=row.label,
                group=row.group,
                probability=found.point.probability(row.logit),
            )
            (misses if found.positive[index] else false_alarms).append(case)
    misses.sort(key=lambda case: (case.probability, case.image))
    false_alarms.sort(key=lambda case: (-case.probability, case.image))
    return tuple(misses[:MOST_CASES]), tuple(false_alarms[:MOST_CASES])


def _data(run: Run) -> DataSummary:
    by_content = defaultdict(list)
    for image in run.split.images:
        by_content[image.sha256].append(image)
    copies = [images for images in by_content.values() if len(images) > 1]
    return DataSummary(
        name=run.data_root.name,
        labels=run.split.labels,
        naming=run.split.naming,
        splits=tuple(_counts(run.split)),
        unreadable=json.loads((run.folder / "data.json").read_text())["unreadable"],
        copies=tuple(tuple(image.path for image in images) for images in copies),
        contradictory=sum(len({image.label for image in images}) > 1 for images in copies),
    )


def _counts(split: Split) -> Iterable[SplitCount]:
    for name in get_args(SplitName):
        if images := split.select(name):
            yield SplitCount(
                split=name,
                images=len(images),
                positives=sum(map(split.is_positive, images)),
                patients=len({image.patient for image in images}),
            )


def _sha256(run: Run, name: str) -> str:
    return hashlib.sha256((run.folder / name).read_bytes()).hexdigest()
