"""From a finished run to a gated bundle: compress, calibrate, convert, judge, and write what was seen."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.models import tflite_logits
from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.atomic import write_atomically
from slimscan_edge.bundle import Bundle, Verdict, write_bundle
from slimscan_edge.errors import InputError
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_export.bundling import make_bundle
from slimscan_export.calibration import CalibrationConfig
from slimscan_export.calibration_audit import calibration_pixels, require_unsaturated
from slimscan_export.convert import PRECISIONS, Precision, SavedModel, convert, saved_model
from slimscan_export.fine_tuning import FineTuneConfig, prune, quantisation_aware, zero_share
from slimscan_export.gates import Candidate, Shifted, Subgroup, evaluate_gates, in_short, overall
from slimscan_export.ladder import Ladder
from slimscan_export.micro import arena_bytes
from slimscan_export.paired_gates import Gate
from slimscan_export.policy import GatePolicy, strict_policy
from slimscan_export.provenance import INTENDED_USE, tool_versions, training_data
from slimscan_export.report import write_report
from slimscan_export.summary import calibration_set, compare_sets, logit_spec
from slimscan_train.dataset import LabelledImage
from slimscan_train.fit import predict_logits
from slimscan_train.run import Run, ScoreRow, read_scores
from slimscan_train.shifts import SHIFTS
from slimscan_train.split import Split
from slimscan_train.training import operating_point, score_rows, training_set

JUDGING_SPLITS = ("val", "val_shift")
"""Patients that no weight and no calibration range was fitted on."""

CHOOSING_SPLIT = "val"
"""Those among them that thresholds are chosen on."""

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
    """

    name: str
    version: str
    quantisation: Quantisation = "ptq"
    sparsity: float = 0.0
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    tuning: FineTuneConfig = field(default_factory=FineTuneConfig)
    policy: GatePolicy = field(default_factory=strict_policy)

    def __post_init__(self) -> None:
        if self.quantisation not in ("ptq", "qat"):
            raise ValueError(f"quantisation is {self.quantisation!r}, expected ptq or qat")
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity is {self.sparsity}, expected 0 to 1")


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
    """

    config: ExportConfig
    variants: dict[str, bytes]
    candidate: Candidate
    gates: tuple[Gate, ...]
    operating_point: OperatingPoint
    zeros: float

    @property
    def verdict(self) -> Verdict:
        """Of all gates together."""
        return overall(self.gates)


def export_run(run: Run, config: ExportConfig, note: Callable[[str], None]) -> Export:
    """Compress a run's float model to int8 and judge it; nothing is written.

    Args:
        run: A finished run.
        config: What is asked.
        note: Told one line of plain text as work goes on.

    Returns:
        The models and the gates' results, whatever the verdict.

    Raises:
        InputError: The run's images are gone, too few, or of one class.
    """
    _recorded(run)  # the work is for nothing without what it is held against
    float_model = run.model()
    compressed = _compressed(run, float_model, config, note)
    calibration = None
    if config.quantisation == "ptq":
        images, calibration = calibration_pixels(run, config.calibration)
        note(f"calibrating on {len(images)} training images, seed {config.calibration.seed}")
    variants = _variants(float_model, compressed, calibration, config, note)
    if calibration is not None:
        require_unsaturated(variants["int8"], calibration)
    return judge(
        run,
        config,
        variants,
        float_model,
        zeros=zero_share(compressed),
        note=note,
        arena=arena_bytes(variants["int8"]),
    )


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
    """
    images = run.split.select(*JUDGING_SPLITS)
    if not images:
        raise InputError(f"{run.folder} holds no validation images to judge on")
    recorded = _recorded(run)
    note(f"judging on {len(images)} images of {len({image.patient for image in images})} patients")
    seen_by_float = run.pixels(images)
    candidate_run = run
    if preprocess and preprocess != run.config.preprocess:
        candidate_run = dataclasses.replace(run, config=dataclasses.replace(run.config, preprocess=preprocess))
    rows = score_rows(tflite_logits(variants["int8"]), candidate_run.config, run.split, run.data_root, note)
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
            Shifted(name=shift, pair=paired(choosing, _logits(recorded, choosing, shift), shift)) for shift in SHIFTS
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


def write_export(
    run: Run, export: Export, out: Path, *, allow_failed: bool, ladder: Ladder | None = None
) -> tuple[Path, bool]:
    """Write the evidence, and the bundle if the gates passed.

    Args:
        run: The run.
        export: What was made and seen.
        out: The bundle's path; the evidence goes into a folder of the same name ending in `.export`.
        allow_failed: Write the bundle whatever the verdict; its manifest says so and devices refuse it.
        ladder: That the export is a row of.

    Returns:
        The evidence's folder, and whether a bundle was written.

    Raises:
        InputError: They cannot be written there.
    """
    evidence = out.with_suffix(".export")
    for precision, model in export.variants.items():
        write_atomically(evidence / f"{precision}.tflite", model)
    write_atomically(evidence / "export.json", (json.dumps(_table(run, export), indent=1) + "\n").encode())
    written = export.verdict == "PASS" or allow_failed
    bundle = _bundle(run, export) if written else None  # proven before the report names it, written after
    write_report(run, export, evidence, bundle=out.name if bundle else None, ladder=ladder)
    if bundle:
        write_bundle(out, bundle.manifest, bundle.members)
    return evidence, written


def _bundle(run: Run, export: Export) -> Bundle:
    return make_bundle(
        run,
        export.variants["int8"],
        export.operating_point,
        in_short(export.gates),
        export.verdict,
        name=export.config.name,
        model_version=export.config.version,
        sets=compare_sets(run.split, export.candidate.pair),
    )


def _compressed(run: Run, model: Any, config: ExportConfig, note: Callable[[str], None]) -> Any:
    if config.sparsity == 0 and config.quantisation == "ptq":
        return model
    train = training_set(run.split, run.config, run.data_root, note)
    if config.sparsity:
        note(f"pruning to {config.sparsity:.0%} zeros, {config.tuning.epochs} epochs")
        model = prune(model, config.sparsity, train, run.config, config.tuning)
    if config.quantisation == "qat":
        note(f"quantisation-aware training, {config.tuning.epochs} epochs")
        model = quantisation_aware(model, train, run.config, config.tuning, keep_zeros=config.sparsity > 0)
    return model


def _variants(
    float_model: Any,
    compressed: Any,
    calibration: NDArray[np.uint8] | None,
    config: ExportConfig,
    note: Callable[[str], None],
) -> dict[str, bytes]:
    """The float model in every precision, but int8 from the compressed one."""
    variants: dict[str, bytes] = {}

    def add(saved: SavedModel, precisions: tuple[Precision, ...]) -> None:
        for precision in precisions:
            variants[precision] = convert(saved, precision, calibration)
            note(f"converted to {precision}: {len(variants[precision]):,} bytes")

    untouched = compressed is float_model
    with saved_model(float_model) as saved:
        add(saved, PRECISIONS if untouched else ("float32", "float16", "dynamic"))
    if not untouched:
        with saved_model(compressed, quantisation_aware=config.quantisation == "qat") as saved:
            add(saved, ("int8",))
    return variants


def _recorded(run: Run) -> Rows:
    """What the run itself recorded of every image that judges and its shift, by both.

    Raises:
        InputError: The run's scores lack an image, or an image under a shift.
    """
    rows = {(row.image, row.shift): row for row in read_scores(run.folder / "scores.csv")}
    needed = [(image.path, "") for image in run.split.select(*JUDGING_SPLITS)]
    needed += [(image.path, shift) for shift in SHIFTS for image in run.split.select(CHOOSING_SPLIT)]
    absent = [key for key in needed if key not in rows]
    if absent:
        image, shift = absent[0]
        first = f"{image} under {shift}" if shift else image
        raise InputError(f"scores.csv of {run.folder} lacks {len(absent)} images ({first} first); train anew")
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


def _table(run: Run, export: Export) -> dict[str, Any]:
    """What `export.json` holds: every observation that the report's figures come from."""
    config, pair = export.config, export.candidate.pair
    split_of = {image.path: image.split for image in run.split.images}
    measured = config.quantisation == "ptq"
    return {
        "schema_version": 1,
        "run": run.folder.name,
        "verdict": export.verdict,
        "config": dataclasses.asdict(config),
        "gates": [dataclasses.asdict(gate) for gate in export.gates],
        "operating_point": dataclasses.asdict(export.operating_point),
        "float_operating_point": dataclasses.asdict(run.operating_point),
        "int8_logit": dataclasses.asdict(logit_spec(export.variants["int8"])),
        "calibration": dataclasses.asdict(calibration_set(run.split, config.calibration)) if measured else None,
        "preprocess": dataclasses.asdict(run.config.preprocess),
        "training_data": training_data(run),
        "intended_use": INTENDED_USE,
        "tools": tool_versions(),
        "size_bytes": {precision: len(model) for precision, model in export.variants.items()},
        "zeros": export.zeros,
        "new_misses": pair.new_misses,
        "new_false_alarms": pair.new_false_alarms,
        "mcnemar": {"sensitivity": pair.sensitivity_p_value, "specificity": pair.specificity_p_value},
        "scores": [
            {
                "image": image,
                "split": split_of[image],
                "patient": patient,
                "group": group,
                "positive": bool(positive),
                "float": float(of_float),
                "int8": float(of_int8),
            }
            for image, patient, group, positive, of_float, of_int8 in zip(
                pair.reference.images,
                pair.reference.patients,
                pair.reference.groups,
                pair.reference.positive,
                pair.reference.logits,
                pair.candidate.logits,
                strict=True,
            )
        ],
        "shift_images": [image.path for image in run.split.select(CHOOSING_SPLIT)],
        "shift_scores": {
            shift.name: {
                "float": shift.pair.reference.logits.tolist(),
                "int8": shift.pair.candidate.logits.tolist(),
            }
            for shift in export.candidate.shifts
        },
    }
