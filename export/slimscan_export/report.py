"""The export report: what int8 lost, as one page that needs nothing else."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.atomic import write_atomically
from slimscan_edge.interpreter import Interpreter
from slimscan_export.convert import output_roles
from slimscan_export.diagnosis import LOW_SQNR_DB
from slimscan_export.ladder import LEAST_GAIN, PICK_RULE, Ladder
from slimscan_export.micro import MicroCheck
from slimscan_export.plots import ladder_plots, logit_scatter
from slimscan_export.provenance import LIMITS, intended_use, tool_versions, training_data
from slimscan_export.summary import (
    Case,
    ExportSummary,
    compare_shifts,
    in_other_surroundings,
    split_pair,
    summarise,
)
from slimscan_train.lungs.surroundings import SWAPS
from slimscan_train.plots import Reliability, reliability_diagram
from slimscan_train.reliability import BINS
from slimscan_train.report import EvidencePicture, draw_evidence, render
from slimscan_train.run import Run

if TYPE_CHECKING:
    from slimscan_export.judging import Export

TEMPLATES = Path(__file__).parent / "templates"
MOST_PICTURES = 8
"""New misses, and as many new false alarms, whose pictures a report shows; all are listed by name."""

MOST_LAYERS = 6
"""Noisiest layers that a report shows; `export.json` lists all."""


def write_report(
    run: Run,
    export: "Export",
    folder: Path,
    *,
    bundle: str | None,
    ladder: Ladder | None = None,
    micro: MicroCheck | str = "no bundle was written",
) -> Path:
    """Write an export's `report.html`.

    Args:
        run: The run; images that int8 newly gets wrong are drawn and must still be there.
        export: What was made and seen.
        folder: The evidence's folder.
        bundle: File name of the bundle that goes with it; None when none is written.
        ladder: That the export is a row of.
        micro: What TFLite Micro makes of the bundle, or why that was not looked at.

    Returns:
        The page.

    Raises:
        InputError: An image to be drawn cannot be read.
    """
    summary = summarise(run, export)
    drawn = (*summary.new_misses[:MOST_PICTURES], *summary.new_false_alarms[:MOST_PICTURES])
    pictures, evidence_scale = _draw_cases(run, export, drawn)
    page = render(
        TEMPLATES / "export.html",
        summary=summary,
        config=export.config,
        diagnosis=export.diagnosis,
        most_layers=MOST_LAYERS,
        low_sqnr_db=LOW_SQNR_DB,
        infinite=math.inf,
        repair=export.repair,
        micro=None if isinstance(micro, str) else micro,
        why_no_micro=micro if isinstance(micro, str) else "",
        bundle=bundle,
        preprocess=run.config.preprocess,
        scatters=_scatters(run, export),
        reliability=_reliability(summary),
        pictures=pictures,
        most_pictures=MOST_PICTURES,
        evidence_scale=evidence_scale,
        bins=BINS,
        training_data=training_data(run),
        intended_use=intended_use(run),
        limits=LIMITS,
        swapped=in_other_surroundings(
            compare_shifts(shift for shift in export.candidate.shifts if shift.name in SWAPS)
        ),
        tools=tool_versions(),
        ladder=ladder,
        ladder_plots=ladder_plots(ladder) if ladder else {},
        pick_rule=PICK_RULE,
        least_gain=LEAST_GAIN,
    )
    path = folder / "report.html"
    write_atomically(path, page.encode(errors="backslashreplace"))
    return path


def _scatters(run: Run, export: "Export") -> dict[str, str]:
    parts = split_pair(run.split, export.candidate.pair)
    return {name: logit_scatter(name, pair, run.split.labels) for name, pair in parts.items()}


def _reliability(summary: ExportSummary) -> dict[str, str]:
    return {
        found.split: reliability_diagram(
            found.split, before=Reliability("float", found.float_bins), after=Reliability("int8", found.int8_bins)
        )
        for found in summary.reliability
    }


def _draw_cases(run: Run, export: "Export", cases: Sequence[Case]) -> tuple[dict[str, EvidencePicture], float]:
    """Pictures by the image's path, and the evidence in logits that all of them draw in full colour."""
    if not cases:
        return {}, 1.0
    wanted = {case.image for case in cases}
    images = [image for image in run.split.images if image.path in wanted]
    pixels = run.pixels(images)
    evidence = _evidence(export.variants["int8"], pixels) + np.float32(export.operating_point.bias)
    return draw_evidence([image.path for image in images], pixels, evidence)


def _evidence(model: bytes, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the int8 model found for the positive label: float32 `[N, h, w]`, logits."""
    interpreter = Interpreter(model)
    at = output_roles(interpreter).index("evidence")
    answers = [interpreter.invoke(image[np.newaxis])[at] for image in pixels]
    return interpreter.outputs[at].real_values(np.concatenate(answers))[..., 0]
