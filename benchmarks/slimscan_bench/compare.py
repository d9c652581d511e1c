"""Two models on the same images: which images, what each scored, and the report of it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.bootstrap import Interval
from slimscan_bench.figures import RESAMPLES, Estimate, Figures, MetricComparison, figures
from slimscan_bench.models import Model, describe_model
from slimscan_bench.scores import Flip, PairedScores, Scores
from slimscan_edge.errors import InputError
from slimscan_train.dataset import Dataset, LabelledImage
from slimscan_train.pixels import Unreadable, load_pixels

SCHEMA_VERSION = 1
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
        seed: Of the bootstrap.
    """

    reference: dict[str, Any]
    candidate: dict[str, Any]
    data: str
    unreadable: tuple[str, ...]
    scores: PairedScores
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a comparison: on all its images and on each subgroup."""

    overall: Figures
    groups: dict[str, Figures]


def compare(
    models: tuple[Model, Model],
    dataset: Dataset,
    images: Sequence[LabelledImage],
    *,
    data: str,
    seed: int,
    note: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Score the same images with both models.

    Args:
        models: Reference and candidate.
        dataset: Where the images lie and which class is positive.
        images: The images to score, from `choose_images`.
        data: What they are, in words.
        seed: Of the bootstrap.
        note: Told what is being done, a line each.

    Raises:
        InputError: No image, or images of one class only, can be read; or a model gives a score that is no number.
    """
    readable, unreadable = _readable(models, dataset, images)
    positives = sum(map(dataset.is_positive, readable))
    if not 0 < positives < len(readable):
        raise InputError(
            f"{data}: {positives} positive and {len(readable) - positives} negative images can be read; "
            "a comparison needs some of both"
        )
    both = [_score(model, dataset, readable, note) for model in models]
    return Comparison(
        reference=describe_model(models[0]),
        candidate=describe_model(models[1]),
        data=data,
        unreadable=unreadable,
        scores=PairedScores(
            reference=both[0],
            candidate=both[1],
            reference_threshold=models[0].operating_point.logit_threshold,
            candidate_threshold=models[1].operating_point.logit_threshold,
        ),
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
    return Summary(
        overall=figures(comparison.scores, seed=comparison.seed),
        groups={group: figures(pair, seed=comparison.seed) for group, pair in groups.items()},
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
        "bootstrap": {"unit": "patient", "seed": comparison.seed, "resamples": RESAMPLES},
        **asdict(summary),
        "flips": [asdict(flip) for flip in pair.flips],
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
        *(line for group, part in summary.groups.items() for line in _figures_lines(f"group {group}", part)),
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


def _score(model: Model, dataset: Dataset, images: Sequence[LabelledImage], note: Callable[[str], None]) -> Scores:
    note(f"scoring {len(images):,} images with {model.name}")
    return Scores(
        images=tuple(image.path for image in images),
        patients=tuple(image.patient for image in images),
        positive=np.array([dataset.is_positive(image) for image in images], dtype=np.bool_),
        groups=tuple(image.group for image in images),
        logits=model.score(_pixels(model, dataset, images)[0]),
    )


def _pixels(
    model: Model, dataset: Dataset, images: Sequence[LabelledImage]
) -> tuple[NDArray[np.uint8], tuple[Unreadable, ...]]:
    return load_pixels([dataset.file(i) for i in images], [i.sha256 for i in images], model.preprocess)


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
        f"  {'':23}{'value':>8}   {'by formula':19}   by patient",
        *(line for metric in part.metrics for line in _metric_lines(metric)),
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
    return f"  {metric:12}{role:11}{estimate.value:8.4f}   {intervals}"


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
