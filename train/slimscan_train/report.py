"""The training report: a run in figures, as one page that needs nothing else, and the same as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.atomic import write_atomically
from slimscan_edge.classifier import NOT_A_MEDICAL_DEVICE
from slimscan_edge.overlay import VIRIDIS
from slimscan_train import plots
from slimscan_train.evaluation import Evaluation, evaluate
from slimscan_train.fit import kept_row, read_history
from slimscan_train.lungs.surroundings import SWAPPED
from slimscan_train.model import normalise_pixels
from slimscan_train.reliability import BINS
from slimscan_train.run import Run
from slimscan_train.split import SplitName
from slimscan_train.summary import MOST_CASES, MOST_PARTED, Case, GroupSummary, RunSummary, summarise

TEMPLATES = Path(__file__).parent / "templates"
PICTURE_SIDE = 160
"""Pixels of the longest side of a picture in a report."""
MADE_WITH = ("slimscan", "tensorflow", "numpy", "pillow", "scikit-learn", "scipy")
_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePicture:
    """An X-ray and the layer to lay over it, as data URIs."""

    xray: str
    evidence: str


def write_report(run: Run) -> Path:
    """Write a finished run's `report.html` and `report.json`.

    The worst errors are drawn from the model and the images, which must still be there; a run without errors is
    reported without either.

    Returns:
        The page.

    Raises:
        InputError: The run's scores or an image to be drawn cannot be read.
    """
    evaluations = _evaluations(run)
    summary = summarise(run, evaluations)
    pictures, evidence_scale = _draw_cases(run, (*summary.misses, *summary.false_alarms))
    page = render(
        TEMPLATES / "training.html",
        summary=summary,
        worst=next((found for found in summary.sets if found.shift and found.shift == summary.worst_shift), None),
        groups=_by_group(summary.groups),
        plots=_plots(run, summary, evaluations),
        pictures=pictures,
        evidence_scale=evidence_scale,
        bins=BINS,
        most_cases=MOST_CASES,
        most_parted=MOST_PARTED,
        versions=_versions(),
    )
    path = run.folder / "report.html"
    write_atomically(path, page.encode(errors="backslashreplace"))
    write_atomically(run.folder / "report.json", _as_json(summary).encode())
    return path


def render(template: Path, **values: object) -> str:
    """Fill a page's template; whatever is not marked as safe is escaped.

    Args:
        template: A Jinja template; it may extend `base.html` and import `macros.html` of this package.
        values: What it names; a name without a value is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["not_a_medical_device"] = NOT_A_MEDICAL_DEVICE
    environment.globals["evidence_colours"] = [f"rgb({r:.0f} {g:.0f} {b:.0f})" for r, g, b in VIRIDIS]
    return environment.get_template(template.name).render(values)


def draw_evidence(
    names: Sequence[str], pixels: NDArray[np.uint8], evidence: NDArray[np.float32]
) -> tuple[dict[str, EvidencePicture], float]:
    """Draw what a model saw where.

    Args:
        names: Of the images, `[N]`.
        pixels: As the model took them, uint8 `[N, H, W, C]`.
        evidence: What it found for the positive label, float32 `[N, h, w]`, logits above a probability of one half.

    Returns:
        The pictures by name, and the evidence in logits that all of them draw in full colour.
    """
    scale = max(float(evidence.max()), 1e-6)
    pictures = {}
    for name, taken, found in zip(names, pixels, evidence, strict=True):
        xray = plots.small_picture(np.asarray(taken), PICTURE_SIDE)
        layer = plots.evidence_layer(found, xray.size, scale)
        pictures[name] = EvidencePicture(xray=plots.data_uri(xray), evidence=plots.data_uri(layer))
    return pictures, scale


def _evaluations(run: Run) -> list[Evaluation]:
    """Images in other surroundings first, then as they are, `val` before `val_shift` before `test`; then the shifts."""
    order = (*SWAPPED.values(), *get_args(SplitName))
    return sorted(evaluate(run), key=lambda found: (found.shift != "", order.index(found.split)))


def _plots(run: Run, summary: RunSummary, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Every figure of the page."""
    plain = [found for found in evaluations if not found.shift]
    scored = {
        found.split: plots.ScoredSet(found.positive, found.logits)
        for found in plain
        if 0 < found.positive.sum() < len(found.positive)
    }
    threshold = run.operating_point.logit_threshold
    return {
        "roc": plots.roc_curves(scored, threshold),
        "precision_recall": plots.precision_recall_curves(scored, threshold),
        "histograms": {found.split: _histogram(found, summary.data.labels) for found in plain},
        "reliability": {
            found.split: plots.reliability_diagram(
                found.split,
                before=plots.Reliability("before calibration", found.bins_before),
                after=plots.Reliability("after calibration", found.bins_after),
            )
            for found in summary.calibration
        },
        **_learning_plots(run),
        **_shift_plots(summary),
    }


def _histogram(found: Evaluation, labels: tuple[str, str]) -> str:
    point = found.point
    scored = plots.ScoredSet(found.positive, found.calibrated)
    return plots.score_histogram(found.name, scored, labels, (point.logit_threshold + point.bias) / point.temperature)


def _learning_plots(run: Run) -> dict[str, str]:
    rows = read_history(run.folder)
    if not rows:
        return {}
    epochs = [row.epoch + 1 for row in rows]
    kept = kept_row(rows).epoch + 1
    losses = {"training": [row.train_plain_loss for row in rows], "validation": [row.val_loss for row in rows]}
    auroc = {"validation": [row.val_auroc for row in rows]}
    return {
        "losses": plots.epoch_curves(epochs, losses, kept=kept, measure="cross-entropy"),
        "auroc": plots.epoch_curves(epochs, auroc, kept=kept, measure="AUROC"),
    }


def _shift_plots(summary: RunSummary) -> dict[str, str]:
    """Both forest plots: sensitivity against the target, specificity against that of the images as they are."""
    val = next(found for found in summary.sets if found.name == "val")
    rows = [val, *(found for found in summary.sets if found.shift)]
    sensitivities = {found.shift or "unaltered": found.sensitivity for found in rows if found.sensitivity}
    specificities = {found.shift or "unaltered": found.specificity for found in rows if found.specificity}
    target, unaltered = summary.operating_point.target_sensitivity, specificities["unaltered"].value
    return {
        "shift_sensitivity": plots.forest_plot(
            "sensitivity", sensitivities, marked=summary.worst_shift, line=target, line_name=f"target {target}"
        ),
        "shift_specificity": plots.forest_plot(
            "specificity", specificities, marked=summary.worst_shift, line=unaltered, line_name="unaltered"
        ),
    }


def _draw_cases(run: Run, cases: Sequence[Case]) -> tuple[dict[str, EvidencePicture], float]:
    """Pictures by the image's path, and the evidence in logits that all of them draw in full colour."""
    if not cases:
        return {}, 1.0
    wanted = {case.image for case in cases}
    images = [image for image in run.split.images if image.path in wanted]
    pixels = run.pixels(images)
    evidence = _evidence(run.model(), pixels) + np.float32(run.operating_point.bias)
    return draw_evidence([image.path for image in images], pixels, evidence)


def _evidence(model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The evidence maps of raw pixels uint8 `[N, H, W, C]`: float32 `[N, h, w]`, logits."""
    _, evidence = model(normalise_pixels(np.ascontiguousarray(pixels)), training=False)
    return np.asarray(evidence.numpy()[..., 0], np.float32)


def _by_group(groups: Iterable[GroupSummary]) -> dict[tuple[str, str], dict[str, GroupSummary]]:
    """Group and label, then split."""
    table: dict[tuple[str, str], dict[str, GroupSummary]] = {}
    for found in groups:
        table.setdefault((found.group, found.label), {})[found.split] = found
    return dict(sorted(table.items()))


def _versions() -> list[str]:
    from importlib.metadata import version

    return [f"{package} {version(package)}" for package in MADE_WITH]


def _as_json(summary: RunSummary) -> str:
    table = {"schema_version": _SCHEMA_VERSION, "not_a_medical_device": NOT_A_MEDICAL_DEVICE, **asdict(summary)}
    return json.dumps(table, indent=1, allow_nan=False) + "\n"
