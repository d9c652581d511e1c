"""Two models on the same images: which images, what each scored, and the report of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.bootstrap import Interval
from slimscan_bench.figures import RESAMPLES, Estimate, Figures, MetricComparison, figures
from slimscan_bench.models import Model, describe_model
from slimscan_bench.probability_figures import (
    ProbabilityComparison,
    SweepRow,
    probability_figures,
    sweep,
    swept_lines,
)
from slimscan_bench.scores import Flip, PairedScores, Scores
from slimscan_edge.errors import InputError
from slimscan_edge.files import Unreadable
from slimscan_edge.operating_point import OperatingPoint
from slimscan_train.dataset import Dataset, LabelledImage
from slimscan_train.pixels import load_pixels
from slimscan_train.shifts import SHIFTS

SCHEMA_VERSION = 2
FLIPS_SHOWN = 50
"""Changed decisions listed in the table for people; the record holds all."""

SplitChoice = Literal["val", "val_shift", "test", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models scored on the same images.

    Attributes:
        reference: What the reference is (`describe_model`).
        candidate: What the candidate is.
        data: The data set and the images chosen from it, in words.
        unreadable: Images that were left out because they cannot be decoded, each with the reason.
        scores: What both answered.
        shifted: The same of the images under each named shift (`slimscan_train.shifts`); may be empty.
        points: Operating points of the reference and the candidate.
        prevalence: Share of positives that predictive values are stated for; None for none of them.
        seed: Of the bootstrap.
    """

    reference: dict[str, Any]
    candidate: dict[str, Any]
    data: str
    unreadable: tuple[str, ...]
    scores: PairedScores
    shifted: Mapping[str, PairedScores]
    points: tuple[OperatingPoint, OperatingPoint]
    prevalence: float | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a comparison.

    Attributes:
        overall: On all its images.
        groups: On each subgroup.
        shifts: On all images under each shift.
        probabilities: What probabilities are worth, on all images.
        group_probabilities: The same on each subgroup.
        sweep: Decisions at one threshold after the other, on all images.
    """

    overall: Figures
    groups: dict[str, Figures]
    shifts: dict[str, Figures]
    probabilities: tuple[ProbabilityComparison, ...]
    group_probabilities: dict[str, tuple[ProbabilityComparison, ...]]
    sweep: tuple[SweepRow, ...]


def compare(
    models: tuple[Model, Model],
    dataset: Dataset,
    images: Sequence[LabelledImage],
    *,
    data: str,
    seed: int,
    prevalence: float | None = None,
    shifts: Sequence[str] = (),
    note: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Score the same images with both models.

    Args:
        models: Reference and candidate.
        dataset: Where the images lie and which class is positive.
        images: The images to score, from `choose_images`.
        data: What they are, in words.
        seed: Of the bootstrap.
        prevalence: Share of positives that predictive values are stated for, between 0 and 1; none without.
        shifts: Names of shifts (`slimscan_train.shifts.SHIFTS`) to score the images under as well.
        note: Told what is being done, a line each.

    Raises:
        InputError: No image, or images of one class only, can be read; a model gives a score that is no number; or the
            prevalence is none.
    """
    if prevalence is not None and not 0 < prevalence < 1:
        raise InputError(f"the prevalence is {prevalence}, expected a share between 0 and 1")
    readable, unreadable = _readable(models, dataset, images)
    positives = sum(map(dataset.is_positive, readable))
    if not 0 < positives < len(readable):
        raise InputError(
            f"{data}: {positives} positive and {len(readable) - positives} negative images can be read; "
            "a comparison needs some of both"
        )

    def scored(shift: str) -> PairedScores:
        one, other = (_score(model, dataset, readable, shift, note) for model in models)
        return PairedScores(
            reference=one,
            candidate=other,
            reference_threshold=models[0].operating_point.logit_threshold,
            candidate_threshold=models[1].operating_point.logit_threshold,
        )

    return Comparison(
        reference=describe_model(models[0]),
        candidate=describe_model(models[1]),
        data=data,
        unreadable=unreadable,
        scores=scored(""),
        shifted={shift: scored(shift) for shift in shifts},
        points=(models[0].operating_point, models[1].operating_point),
        prevalence=prevalence,
        seed=seed,
    )


def choose_images(
    dataset: Dataset, models: tuple[Model, Model], split: SplitChoice | None
) -> tuple[tuple[LabelledImage, ...], str]:
    """Choose images that neither model was trained on, as far as the models tell.

    A run knows the split of each image by its content; images that no run knows are in the split that the data set
    itself names.

    Args:
        dataset: What to choose from.
        models: Reference and candidate.
        split: Which split, or all images; when None `val` if there is one, else all.

    Returns:
        The images, and which they are in words.

    Raises:
        InputError: The split is empty, or holds images that a run was trained on.
    """
    splits = [model.split for model in models if model.split is not None]
    home = {image.sha256: image.split for image in dataset.images}
    for known in reversed(splits):  # the reference has the last word
        home.update({image.sha256: image.split for image in known.images if image.sha256 in home})
    wanted = split or ("val" if "val" in home.values() else "all")
    chosen = tuple(image for image in dataset.images if wanted in ("all", home[image.sha256]))
    if not chosen:
        present = ", ".join(sorted({name for name in home.values() if name})) or "no split at all"
        raise InputError(f"{dataset.root} holds no image of the split {wanted!r}; it holds {present}")
    trained = {image.sha256 for known in splits for image in known.images if image.split == "train"}
    seen = [image.path for image in chosen if image.sha256 in trained]
    if seen:
        raise InputError(
            f"{len(seen)} of the {len(chosen)} images of {wanted!r} trained one of the runs ({seen[0]} first), "
            "and would flatter it; choose --split val of runs that share one split"
        )
    patients = len({image.patient for image in chosen})
    what = "all images" if wanted == "all" else f"split {wanted}"
    unknown = "" if splits else "; neither model tells whether it was trained on them"
    return chosen, f"{dataset.root}, {what}: {len(chosen):,} images of {patients:,} patients{unknown}"


def summarise(comparison: Comparison) -> Summary:
    """Compute every figure of a comparison; the bootstrap takes a few seconds."""
    groups = comparison.scores.by_group()

    def probabilities(pair: PairedScores) -> tuple[ProbabilityComparison, ...]:
        prevalence, seed = comparison.prevalence, comparison.seed
        return probability_figures(pair, comparison.points, prevalence=prevalence, seed=seed)

    return Summary(
        overall=figures(comparison.scores, seed=comparison.seed),
        groups={group: figures(pair, seed=comparison.seed) for group, pair in groups.items()},
        shifts={shift: figures(pair, seed=comparison.seed) for shift, pair in comparison.shifted.items()},
        probabilities=probabilities(comparison.scores),
        group_probabilities={group: probabilities(pair) for group, pair in groups.items()},
        sweep=sweep(comparison.scores, comparison.points),
    )


def to_table(comparison: Comparison, summary: Summary) -> dict[str, Any]:
    """Plain values for JSON: `schema_version`, the figures, the changed decisions and every score."""
    pair = comparison.scores
    names = ("image", "patient", "group", "positive", "reference_logit", "candidate_logit")
    rows = zip(
        pair.reference.images,
        pair.reference.patients,
        pair.reference.groups,
        pair.reference.positive.tolist(),
        pair.reference.logits.tolist(),
        pair.candidate.logits.tolist(),
        strict=True,
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "reference": comparison.reference,
        "candidate": comparison.candidate,
        "data": comparison.data,
        "unreadable": comparison.unreadable,
        "prevalence": comparison.prevalence,
        "bootstrap": {"unit": "patient", "seed": comparison.seed, "resamples": RESAMPLES},
        **asdict(summary),
        "flips": [asdict(flip) for flip in pair.flips],
        "shift_flips": {name: [asdict(flip) for flip in under.flips] for name, under in comparison.shifted.items()},
        "scores": [dict(zip(names, row, strict=True)) for row in rows],
    }


def to_lines(comparison: Comparison, summary: Summary) -> list[str]:
    """The report for people, line by line."""
    flips = comparison.scores.flips
    hidden = len(flips) - FLIPS_SHOWN
    return [
        _model_line("reference", comparison.reference),
        _model_line("candidate", comparison.candidate),
        f"data       {comparison.data}",
        *(f"left out   {reason}" for reason in comparison.unreadable),
        "",
        "differences are candidate less reference; 95 % intervals by formula (images independent) and by bootstrap of",
        f"patients (seed {comparison.seed}); decisions at each model's threshold, refer bands left aside",
        *_figures_lines("all images", summary.overall),
        *_probability_lines(summary.probabilities, comparison.prevalence),
        *(
            line
            for group, part in summary.groups.items()
            for line in (
                *_figures_lines(f"group {group}", part),
                *_probability_lines(summary.group_probabilities[group], comparison.prevalence),
            )
        ),
        *(line for shift, part in summary.shifts.items() for line in _figures_lines(f"shift {shift}", part)),
        *swept_lines(summary.sweep),
        "",
        f"changed decisions: {len(flips)}",
        *(_flip_line(flip) for flip in flips[:FLIPS_SHOWN]),
        *([f"  and {hidden} more, all in the JSON record"] if hidden > 0 else []),
    ]


def _readable(
    models: tuple[Model, Model], dataset: Dataset, images: Sequence[LabelledImage]
) -> tuple[tuple[LabelledImage, ...], tuple[str, ...]]:
    reasons = {bad.path: bad.reason for model in models for bad in _pixels(model, dataset, images)[1]}
    return tuple(image for image in images if str(dataset.file(image)) not in reasons), tuple(reasons.values())


def _score(
    model: Model, dataset: Dataset, images: Sequence[LabelledImage], shift: str, note: Callable[[str], None]
) -> Scores:
    note(f"scoring {len(images):,} images with {model.name}" + (f", shift {shift}" if shift else ""))
    return Scores(
        images=tuple(image.path for image in images),
        patients=tuple(image.patient for image in images),
        positive=np.array([dataset.is_positive(image) for image in images], dtype=np.bool_),
        groups=tuple(image.group for image in images),
        logits=model.score(_pixels(model, dataset, images, shift)[0]),
    )


def _pixels(
    model: Model, dataset: Dataset, images: Sequence[LabelledImage], shift: str = ""
) -> tuple[NDArray[np.uint8], tuple[Unreadable, ...]]:
    files, digests = [dataset.file(i) for i in images], [i.sha256 for i in images]
    return load_pixels(files, digests, model.preprocess, shift=SHIFTS[shift] if shift else None, shift_name=shift)


def _model_line(role: str, model: dict[str, Any]) -> str:
    note = f"; {model['note']}" if model["note"] else ""
    return (
        f"{role:10} {model['name']}: {model['kind']}, {model['size_bytes'] / 1024:,.1f} KiB, threshold "
        f"{model['threshold']:.4f} (chosen on {model['threshold_chosen_on']}){note}"
    )


def _figures_lines(name: str, part: Figures) -> list[str]:
    return [
        "",
        f"{name}: {part.images:,} images of {part.patients:,} patients, {part.positives:,} positive; "
        f"{part.flips} decisions changed, {part.new_misses} new misses, {part.new_false_alarms} new false alarms",
        f"  {'':29}{'value':>8}   {'by formula':19}   by patient",
        *(line for metric in part.metrics for line in _metric_lines(metric)),
    ]


def _probability_lines(metrics: Sequence[ProbabilityComparison], prevalence: float | None) -> list[str]:
    stated = any(metric.metric == "ppv" for metric in metrics)
    at = f" (predictive values at a prevalence of {prevalence:g})" if stated else ""
    return [
        f"  probabilities{at}",
        *(
            _estimate_line(metric.metric if role == "reference" else "", role, getattr(metric, role)).rstrip()
            for metric in metrics
            for role in ("reference", "candidate", "difference")
        ),
    ]


def _metric_lines(metric: MetricComparison) -> list[str]:
    p_value = "" if metric.p_value is None else f"   p = {metric.p_value:.3g}"
    return [
        _estimate_line(metric.metric, "reference", metric.reference).rstrip(),
        _estimate_line("", "candidate", metric.candidate).rstrip(),
        (_estimate_line("", "difference", metric.difference) + p_value).rstrip(),
    ]


def _estimate_line(metric: str, role: str, estimate: Estimate) -> str:
    intervals = f"{_span(estimate.interval):19}   {_span(estimate.clustered):19}"
    return f"  {metric:18}{role:11}{estimate.value:8.4f}   {intervals}"


def _span(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"


def _flip_line(flip: Flip) -> str:
    what = {
        (True, True): "new miss",
        (True, False): "miss mended",
        (False, False): "new false alarm",
        (False, True): "false alarm mended",
    }[flip.positive, flip.reference_positive]
    return f"  {what:19} {flip.image}  (logit {flip.reference_logit:+.3f} -> {flip.candidate_logit:+.3f})"
