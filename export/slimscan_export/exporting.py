"""From a finished run to a gated bundle: compress, calibrate, convert, judge, repair, and write what was seen."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.atomic import write_atomically
from slimscan_edge.bundle import Bundle, write_bundle
from slimscan_edge.errors import InputError, MissingExtraError
from slimscan_export.bundling import make_bundle
from slimscan_export.calibration_audit import calibration_pixels, require_unsaturated
from slimscan_export.convert import PRECISIONS, Precision, SavedModel, convert, saved_model
from slimscan_export.diagnosis import Diagnosis, diagnose
from slimscan_export.fine_tuning import prune, quantisation_aware, zero_share
from slimscan_export.gates import in_short
from slimscan_export.judging import CHOOSING_SPLIT, Export, ExportConfig, judge, recorded_scores
from slimscan_export.ladder import Ladder
from slimscan_export.micro import MicroCheck, arena_bytes, check_micro
from slimscan_export.provenance import intended_use, tool_versions, training_data
from slimscan_export.repair import Repair, repair
from slimscan_export.report import write_report
from slimscan_export.summary import compare_sets, compare_shifts, logit_spec
from slimscan_train.run import Run
from slimscan_train.training import training_set

__all__ = ["Export", "ExportConfig", "export_run", "judge", "write_export"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Converted:
    """The files of an export, and what int8 adds at each layer; None when its ranges were learnt in training."""

    variants: dict[str, bytes]
    diagnosis: Diagnosis | None


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
    recorded_scores(run)  # the work is for nothing without what it is held against
    float_model = run.model()
    compressed = _compressed(run, float_model, config, note)
    calibration = None
    if config.quantisation == "ptq":
        images, calibration = calibration_pixels(run, config.calibration)
        note(f"calibrating on {len(images)} training images, seed {config.calibration.seed}")
    converted = _converted(float_model, compressed, calibration, config, note)
    if calibration is not None:
        require_unsaturated(converted.variants["int8"], calibration)
    export = judge(
        run,
        config,
        converted.variants,
        float_model,
        zeros=zero_share(compressed),
        note=note,
        arena=_arena(converted.variants["int8"], note),
    )
    export = dataclasses.replace(export, diagnosis=converted.diagnosis)
    if config.repair and export.verdict == "FAIL":
        return _repaired(run, export, float_model, compressed, note)
    return export


def _repaired(run: Run, failed: Export, float_model: Any, network: Any, note: Callable[[str], None]) -> Export:
    """The export of the repaired model, judged once; the failed one when no try came nearer to passing."""
    found, chosen = repair(run, failed, float_model, network, note)
    if chosen is None:
        note("no try came nearer to passing; the model stays as it was")
        return dataclasses.replace(failed, repair=found)
    note(f"{found.chosen} is judged on the patients that accept")
    export = judge(
        run,
        failed.config,
        {**failed.variants, "int8": chosen.model},
        float_model,
        zeros=chosen.zeros,
        note=note,
        arena=_arena(chosen.model, note),
    )
    return dataclasses.replace(export, calibration=chosen.calibration, diagnosis=failed.diagnosis, repair=found)


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
    written = export.verdict == "PASS" or allow_failed
    bundle = _bundle(run, export) if written else None  # proven before the report names it, written after
    micro = _micro(bundle)
    table = {**_table(run, export), "micro": _micro_table(micro)}
    write_atomically(evidence / "export.json", (json.dumps(table, indent=1) + "\n").encode())
    write_report(run, export, evidence, bundle=out.name if bundle else None, ladder=ladder, micro=micro)
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
        shifts=compare_shifts(export.candidate.shifts),
    )


def _arena(model: bytes, note: Callable[[str], None]) -> int | None:
    """Bytes of arena in TFLite Micro; None, with a note, where it is not installed or does not run the model."""
    try:
        return arena_bytes(model)
    except (InputError, MissingExtraError) as exc:
        note(f"arena memory is not measured: {exc}")
        return None


def _micro(bundle: Bundle | None) -> MicroCheck | str:
    """What TFLite Micro makes of a bundle, or why that was not looked at."""
    if bundle is None:
        return "no bundle was written"
    try:
        return check_micro(bundle)
    except (InputError, MissingExtraError) as exc:
        return str(exc)


def _micro_table(micro: MicroCheck | str) -> dict[str, Any]:
    return {"skipped": micro} if isinstance(micro, str) else {**dataclasses.asdict(micro), "passed": micro.passed}


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


def _converted(
    float_model: Any,
    compressed: Any,
    calibration: NDArray[np.uint8] | None,
    config: ExportConfig,
    note: Callable[[str], None],
) -> _Converted:
    """The float model in every precision, but int8 from the compressed one."""
    variants: dict[str, bytes] = {}
    diagnosis = None

    def add(saved: SavedModel, precisions: tuple[Precision, ...]) -> None:
        for precision in precisions:
            variants[precision] = convert(saved, precision, calibration)
            note(f"converted to {precision}: {len(variants[precision]):,} bytes")

    untouched = compressed is float_model
    with saved_model(float_model) as saved:
        add(saved, PRECISIONS if untouched else ("float32", "float16", "dynamic"))
        if untouched and calibration is not None:
            diagnosis = diagnose(saved, compressed, calibration)
    if not untouched:
        with saved_model(compressed, quantisation_aware=config.quantisation == "qat") as saved:
            add(saved, ("int8",))
            if calibration is not None:
                diagnosis = diagnose(saved, compressed, calibration)
    return _Converted(variants=variants, diagnosis=diagnosis)


def _table(run: Run, export: Export) -> dict[str, Any]:
    """What `export.json` holds: every observation that the report's figures come from."""
    config, pair = export.config, export.candidate.pair
    split_of = {image.path: image.split for image in run.split.images}
    return {
        "schema_version": 1,
        "run": run.folder.name,
        "verdict": export.verdict,
        "config": dataclasses.asdict(config),
        "gates": [dataclasses.asdict(gate) for gate in export.gates],
        "operating_point": dataclasses.asdict(export.operating_point),
        "float_operating_point": dataclasses.asdict(run.operating_point),
        "int8_logit": dataclasses.asdict(logit_spec(export.variants["int8"])),
        "calibration": dataclasses.asdict(export.calibration) if export.calibration else None,
        "preprocess": dataclasses.asdict(run.config.preprocess),
        "training_data": training_data(run),
        "intended_use": intended_use(run),
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
        "diagnosis": _diagnosis_table(export.diagnosis),
        "repair": _repair_table(export.repair),
        "shift_images": [image.path for image in run.split.select(CHOOSING_SPLIT)],
        "shift_scores": {
            shift.name: {
                "float": shift.pair.reference.logits.tolist(),
                "int8": shift.pair.candidate.logits.tolist(),
            }
            for shift in export.candidate.shifts
        },
    }


def _diagnosis_table(diagnosis: Diagnosis | None) -> dict[str, Any] | None:
    if diagnosis is None:
        return None
    layers = [{**dataclasses.asdict(found), "sqnr_db": _finite(found.sqnr_db)} for found in diagnosis.layers]
    return {"images": diagnosis.images, "layers": layers}


def _repair_table(found: Repair | None) -> dict[str, Any] | None:
    if found is None:
        return None
    table = dataclasses.asdict(found)
    for attempt in (table["as_exported"], *table["attempts"]):
        if worst := attempt["worst_layer"]:
            worst["sqnr_db"] = _finite(worst["sqnr_db"])
    return table


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
