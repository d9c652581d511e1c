"""Holding a compressed model against its float model: what an export is asked, and what was made and seen."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.models import tflite_logits
from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.bundle import Verdict
from slimscan_edge.errors import InputError
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_export.calibration import CalibrationConfig
from slimscan_export.diagnosis import Diagnosis
from slimscan_export.fine_tuning import FineTuneConfig
from slimscan_export.gates import Candidate, Shifted, Subgroup, evaluate_gates, overall
from slimscan_export.paired_gates import Gate
from slimscan_export.policy import GatePolicy, strict_policy
from slimscan_export.summary import CalibrationSet, calibration_set, logit_spec
from slimscan_train.dataset import LabelledImage
from slimscan_train.fit import predict_logits
from slimscan_train.run import Run, ScoreRow, read_scores
from slimscan_train.split import Split
from slimscan_train.training import VALIDATION, operating_point, score_rows

if TYPE_CHECKING:
    from slimscan_export.repair import Repair

CHOOSING_SPLIT = "val"
"""The validation patients on whom probabilities are calibrated, and to whose images the named shifts are applied."""

Quantisation = Literal["ptq", "qat"]
Logits = NDArray[np.float64]
Rows = Mapping[tuple[str, str], ScoreRow]
"""By image and shift."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """All that an export can be asked.

    Attributes:
        name: Name of the bundle.
        version: Its semantic version.
        quantisation: `ptq`: ranges from calibration images after training; `qat`: learnt in a short training.
        sparsity: Share of each pointwise kernel that magnitude pruning sets to zero; 0 prunes nothing.
        calibration: Images that int8 ranges are measured on.
        tuning: How pruning and quantisation-aware training go on from the float model.
        policy: What the gates allow.
        repair: When int8 fails its gates, try to repair it.
    """

    name: str
    version: str
    quantisation: Quantisation = "ptq"
    sparsity: float = 0.0
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    tuning: FineTuneConfig = field(default_factory=FineTuneConfig)
    policy: GatePolicy = field(default_factory=strict_policy)
    repair: bool = False

    def __post_init__(self) -> None:
        if self.quantisation not in ("ptq", "qat"):
            raise ValueError(f"quantisation is {self.quantisation!r}, expected ptq or qat")
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity is {self.sparsity}, expected 0 to 1")
        if self.repair and self.quantisation == "qat":
            raise ValueError(
                "repair starts from int8 made after training and tries qat itself; leave out one of the two"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Export:
    """What an export made and saw.

    Attributes:
        config: What was asked.
        variants: The bytes of each `.tflite`, by precision.
        candidate: The int8 model against the float one.
        gates: Each gate's result.
        operating_point: Of the int8 model, locked.
        zeros: Share of zeros among the kernels of the model that was converted, 0 to 1.
        calibration: Whom its ranges were measured on; None when they were learnt in training instead.
        diagnosis: What int8 made after training adds at each layer, before any repair; None when it was not measured.
        repair: What was tried when it failed; None when nothing was.
    """

    config: ExportConfig
    variants: dict[str, bytes]
    candidate: Candidate
    gates: tuple[Gate, ...]
    operating_point: OperatingPoint
    zeros: float
    calibration: CalibrationSet | None = None
    diagnosis: Diagnosis | None = None
    repair: "Repair | None" = None

    @property
    def verdict(self) -> Verdict:
        """Of all gates together."""
        return overall(self.gates)


def judge(
    run: Run,
    config: ExportConfig,
    variants: dict[str, bytes],
    float_model: Any,
    *,
    zeros: float,
    note: Callable[[str], None],
    preprocess: PreprocessSpec | None = None,
    arena: int | None = None,
    recorded: Rows | None = None,
) -> Export:
    """Hold an int8 model against the run's float model on the run's held-out patients.

    Args:
        run: The run.
        config: What is asked.
        variants: The bytes of each `.tflite`; `int8` is the candidate.
        float_model: The run's Keras model.
        zeros: Share of zeros among the kernels.
        note: Told one line of plain text.
        preprocess: What the candidate's images pass through, when it is not the run's preprocessing.
        arena: Bytes that the candidate takes in TFLite Micro; None when it was not measured.
        recorded: The float model's scores of every image that judges and of its shifts; those of `scores.csv` unless
            given.

    Raises:
        InputError: The run's images are gone, too few, or of one class, or their scores are.
    """
    images = run.split.select(*VALIDATION)
    if not images:
        raise InputError(f"{run.folder} holds no validation images to judge on")
    recorded = recorded_scores(run) if recorded is None else recorded
    note(f"judging on {len(images)} images of {len({image.patient for image in images})} patients")
    seen_by_float = run.pixels(images)
    candidate_run = run
    if preprocess and preprocess != run.config.preprocess:
        candidate_run = dataclasses.replace(run, config=dataclasses.replace(run.config, preprocess=preprocess))
    rows = score_rows(tflite_logits(variants["int8"]), candidate_run.config, run.split, run.data_root, note, run.lungs)
    answered = {(row.image, row.shift): row for row in rows}
    point = operating_point(rows, run.config, run.split.labels[1], "int8")

    def paired(images: tuple[LabelledImage, ...], reference: Logits, shift: str = "") -> PairedScores:
        return PairedScores(
            reference=scores_of(run, images, reference),
            candidate=scores_of(run, images, _logits(answered, images, shift)),
            reference_threshold=run.operating_point.logit_threshold,
            candidate_threshold=point.logit_threshold,
        )

    choosing = run.split.select(CHOOSING_SPLIT)
    candidate = Candidate(
        pair=paired(images, predict_logits(float_model, seen_by_float)[:, 0]),
        validated=_validated(run, images, recorded),
        chosen_on=np.array([image.split == CHOOSING_SPLIT for image in images]),
        target_sensitivity=run.operating_point.target_sensitivity,
        reference_preprocess=run.config.preprocess,
        candidate_preprocess=candidate_run.config.preprocess,
        model_bytes=len(variants["int8"]),
        subgroups=_subgroups(run.split, images),
        shifts=tuple(
            Shifted(name=shift, pair=paired(choosing, _logits(recorded, choosing, shift), shift))
            for shift in run.shifts
        ),
        logit_step=logit_spec(variants["int8"]).scale or None,
        arena_bytes=arena,
    )
    return Export(
        config=config,
        variants=variants,
        candidate=candidate,
        gates=evaluate_gates(candidate, config.policy),
        operating_point=point,
        zeros=zeros,
        calibration=calibration_set(run.split, config.calibration) if config.quantisation == "ptq" else None,
    )


def scores_of(run: Run, images: tuple[LabelledImage, ...], logits: Logits) -> Scores:
    """Logits `[N]` of a run's images as a record for statistics."""
    return Scores(
        images=tuple(image.path for image in images),
        patients=tuple(image.patient for image in images),
        positive=np.array([run.split.is_positive(image) for image in images]),
        groups=tuple(image.group for image in images),
        logits=logits,
    )


def recorded_scores(run: Run) -> Rows:
    """What the run itself recorded of every image that judges and its shift, by both.

    Raises:
        InputError: The run's scores lack an image, or an image under a shift.
    """
    rows = {(row.image, row.shift): row for row in read_scores(run.folder / "scores.csv")}
    needed = [(image.path, "") for image in run.split.select(*VALIDATION)]
    needed += [(image.path, shift) for shift in run.shifts for image in run.split.select(CHOOSING_SPLIT)]
    absent = [key for key in needed if key not in rows]
    if absent:
        image, shift = absent[0]
        first = f"{image} under {shift}" if shift else image
        raise InputError(
            f"scores.csv of {run.folder} lacks {len(absent)} images ({first} first); to score the run again, remove "
            "operating_point.json there and go on with: slimscan train --resume"
        )
    return rows


def _logits(rows: Rows, images: Sequence[LabelledImage], shift: str) -> Logits:
    return np.array([rows[image.path, shift].logit for image in images])


def _validated(run: Run, images: Sequence[LabelledImage], recorded: Rows) -> Scores:
    """The scores and the labels that the run itself recorded for these images."""
    rows = [recorded[image.path, ""] for image in images]
    return Scores(
        images=tuple(row.image for row in rows),
        patients=tuple(row.patient for row in rows),
        positive=np.array([row.label == run.split.labels[1] for row in rows]),
        groups=tuple(row.group for row in rows),
        logits=np.array([row.logit for row in rows]),
    )


def _subgroups(split: Split, images: Sequence[LabelledImage]) -> tuple[Subgroup, ...]:
    """Subtypes and acquisition series of either class, each set of images once."""
    found: dict[bytes, Subgroup] = {}
    for positive in (True, False):
        of_class = np.array([split.is_positive(image) is positive for image in images])
        for kind in ("group", "series"):
            names = np.array([getattr(image, kind) for image in images])
            several = sorted(set(names[of_class]))
            for name in several if len(several) > 1 else ():
                members = of_class & (names == name)
                found.setdefault(members.tobytes(), Subgroup(name=str(name), members=members))
    return tuple(found.values())
