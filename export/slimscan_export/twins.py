"""Twins of a bundle for other runtimes, written where an export is told to and by the bundle's own rule."""

from dataclasses import dataclass
from pathlib import Path

from slimscan_edge.atomic import write_atomically
from slimscan_edge.bundle import Verdict, read_bundle
from slimscan_edge.errors import InputError
from slimscan_export.convert import convert, saved_model
from slimscan_export.mobile import mobile_twin, require_stretch
from slimscan_export.onnx_twin import onnx_twin, require_onnx, require_parity, run_properties
from slimscan_train.run import Run

PARITY_IMAGES = 16
"""Validation images that an ONNX twin is proven on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """Which twins are wanted, and where.

    Attributes:
        mobile: The `.tflite` file for MediaPipe Tasks; None for none.
        onnx: The `.onnx` file of the float model; None for none.
    """

    mobile: Path | None = None
    onnx: Path | None = None

    def check(self, run: Run) -> None:
        """Refuse before the work what cannot be written after it.

        Raises:
            InputError: A file exists already, or MediaPipe cannot do the run's preprocessing.
            MissingExtraError: An ONNX twin is wanted and its extra is not installed.
        """
        for flag, path in (("--mobile", self.mobile), ("--onnx", self.onnx)):
            if path and path.exists():
                raise InputError(f"{flag} {path} exists and is never overwritten; give another name")
        if self.mobile:
            require_stretch(run.config.preprocess)
        if self.onnx:
            require_onnx()

    def write(self, run: Run, bundle: Path, verdict: Verdict) -> list[str]:
        """Write the twins of a bundle, if it was written.

        Args:
            run: The run that it was exported from.
            bundle: Where it lies if it was written.
            verdict: Of its gates.

        Returns:
            A line on each twin that is wanted.

        Raises:
            InterpreterError: A twin does not answer as its original; it is not written.
        """
        wanted = {"mobile": self.mobile, "ONNX": self.onnx}
        if not bundle.exists():
            return [f"no {name} twin is written: the verdict is {verdict}" for name, path in wanted.items() if path]
        lines = []
        if self.mobile:
            lines.append(_write_mobile(bundle, self.mobile))
        if self.onnx:
            lines.append(_write_onnx(run, self.onnx))
        return lines


def _write_mobile(bundle: Path, path: Path) -> str:
    twin = mobile_twin(read_bundle(bundle, allow_failed=True))
    write_atomically(path, twin)
    return f"mobile twin: {path} ({len(twin):,} bytes), scores as the bundle's on its golden images"


def _write_onnx(run: Run, path: Path) -> str:
    model = run.model()
    twin = onnx_twin(model, run_properties(run))
    with saved_model(model) as saved:
        float_tflite = convert(saved, "float32")
    pixels = run.pixels(run.split.select("val")[:PARITY_IMAGES])
    difference = require_parity(twin, float_tflite, pixels)
    write_atomically(path, twin)
    return (
        f"ONNX twin of the float model: {path} ({len(twin):,} bytes), "
        f"at most {difference:.1g} from float TFLite on {len(pixels)} validation images"
    )
