"""`slimscan export RUN --out BUNDLE`: compress, gate, and write a bundle only if every gate passed."""

import argparse
import dataclasses
import sys
from pathlib import Path

from slimscan_edge.bundle import SUFFIX, split_bundle_id
from slimscan_edge.errors import InputError
from slimscan_export.calibration import CalibrationConfig
from slimscan_export.diagnosis import noisiest
from slimscan_export.exporting import Export, ExportConfig, export_run, write_export
from slimscan_export.fine_tuning import FineTuneConfig
from slimscan_export.gates import EXIT_CODES, in_short
from slimscan_export.ladder import in_lines
from slimscan_export.ladder_measuring import LadderConfig, climb
from slimscan_export.ladder_networks import RECOVERY
from slimscan_export.ladder_rows import RECIPES
from slimscan_export.policy import STRICT, read_policy
from slimscan_export.twins import Twins
from slimscan_train.quiet import require_avx
from slimscan_train.run import read_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="NAME-VERSION.slimscan to write")
    parser.add_argument("--quantisation", choices=("ptq", "qat"), default="ptq", help="after training, or aware of it")
    parser.add_argument("--prune", type=float, default=0.0, metavar="SHARE", help="zeros in each pointwise kernel")
    parser.add_argument("--fine-tune-epochs", type=int, default=2, help="epochs of pruning and of qat (2)")
    parser.add_argument(
        "--ladder", action="store_true", help="measure every way to compress, and bundle the cheapest that passes"
    )
    parser.add_argument("--rows", nargs="+", metavar="ROW", help=f"of the ladder ({' '.join(RECIPES)})")
    parser.add_argument(
        "--recovery-epochs",
        type=int,
        metavar="N",
        help=f"of the ladder, after each cut of channels ({RECOVERY.epochs})",
    )
    parser.add_argument(
        "--repair", action="store_true", help="when int8 fails its gates, try to repair it, judged on training patients"
    )
    parser.add_argument("--calibration-images", type=int, default=200, help="training images for int8 ranges (200)")
    parser.add_argument("--calibration-seed", type=int, default=0, help="of their draw (0)")
    parser.add_argument(
        "--policy", default=STRICT, metavar="NAME|FILE", help=f"what the gates allow: a TOML file ({STRICT})"
    )
    parser.add_argument("--mobile", type=Path, metavar="FILE", help="also a .tflite twin for MediaPipe Tasks")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="also an ONNX twin of the float model")
    parser.add_argument(
        "--allow-failed", action="store_true", help="write the bundle whatever the verdict; devices refuse it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Export and report; the exit code is the verdict's."""
    require_avx()
    name, version = _name_and_version(arguments.out)
    try:
        config = ExportConfig(
            name=name,
            version=version,
            quantisation=arguments.quantisation,
            sparsity=arguments.prune,
            calibration=CalibrationConfig(images=arguments.calibration_images, seed=arguments.calibration_seed),
            tuning=FineTuneConfig(epochs=arguments.fine_tune_epochs),
            policy=read_policy(arguments.policy),
            repair=arguments.repair,
        )
        ladder_config = _ladder_config(arguments)
    except ValueError as exc:
        raise InputError(str(exc)) from exc
    if arguments.out.exists():
        raise InputError(f"{arguments.out} exists and a version is never overwritten; give another version")
    finished = read_run(arguments.run)
    negative, positive = finished.split.labels
    _note(f"{arguments.run}: {positive} is the positive class, {negative} the negative one")
    twins = Twins(mobile=arguments.mobile, onnx=arguments.onnx)
    twins.check(finished)
    if ladder_config:
        ladder, export = climb(finished, config, ladder_config, arguments.out, _note)
        print("\n".join(in_lines(ladder)))
    else:
        ladder, export = None, export_run(finished, config, _note)
    evidence, written = write_export(
        finished, export, arguments.out, allow_failed=arguments.allow_failed, ladder=ladder
    )
    print(_summary(export))
    if written:
        print(f"bundle: {arguments.out} ({arguments.out.stat().st_size:,} bytes)")
    else:
        print(f"no bundle is written: the verdict is {export.verdict}")
    for line in twins.write(finished, arguments.out, export.verdict):
        print(line)
    print(f"report: {evidence / 'report.html'}")
    return EXIT_CODES[export.verdict]


def _ladder_config(arguments: argparse.Namespace) -> LadderConfig | None:
    if not arguments.ladder:
        if arguments.rows or arguments.recovery_epochs is not None:
            raise InputError("--rows and --recovery-epochs are of the ladder; give --ladder too")
        return None
    if arguments.repair:
        raise InputError("--ladder tries every recipe and --repair mends one; leave out either")
    if arguments.prune or arguments.quantisation != "ptq":
        raise InputError("--ladder tries every recipe, --prune and --quantisation ask for one; leave out either")
    epochs = RECOVERY.epochs if arguments.recovery_epochs is None else arguments.recovery_epochs
    return LadderConfig(rows=tuple(arguments.rows or RECIPES), recovery=dataclasses.replace(RECOVERY, epochs=epochs))


def _name_and_version(out: Path) -> tuple[str, str]:
    if out.suffix != SUFFIX:
        raise InputError(f"--out {out.name}: expected NAME-VERSION{SUFFIX}, such as pneumonia-0.1.0{SUFFIX}")
    return split_bundle_id(out.stem)


def _summary(export: Export) -> str:
    gates = in_short(export.gates)
    lines = [f"{gate.verdict:12} {gate.name}: {gate.measured} (allowed: {gate.allowed})" for gate in gates]
    if export.repair:
        lines += [f"repair, {tried.name}: {tried.verdict or tried.not_deployable}" for tried in export.repair.attempts]
        lines.append(f"repair chose: {export.repair.chosen or 'nothing'}")
    elif export.verdict != "PASS" and export.diagnosis:
        lines.append(f"noisiest layers: {noisiest(export.diagnosis)}")
    return "\n".join([*lines, f"verdict: {export.verdict}, by the policy {export.config.policy.name}"])


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
