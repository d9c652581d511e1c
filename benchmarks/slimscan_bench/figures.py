"""Every figure of two models on the same images, with intervals: computed from `PairedScores`, stored nowhere else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.bootstrap import Interval
from slimscan_bench.intervals import auroc
from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.errors import InputError

Metric = Literal["auroc", "sensitivity", "specificity"]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Statistic = Callable[[BoolArray, FloatArray], float]
ValueT = TypeVar("ValueT")
RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with two 95 % intervals.

    Attributes:
        value: The figure.
        interval: By formula, images taken as independent: DeLong for AUROC, Clopper-Pearson for one proportion,
            Newcombe for the difference of two. None with too few images.
        clustered: By bootstrap of patients, None with too few of them. Where nothing varies (no error was made, no
            decision changed) it has no width and says nothing: read the other.
    """

    value: float
    interval: Interval | None
    clustered: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """One figure of both models.

    Attributes:
        metric: Which.
        reference: Of the reference.
        candidate: Of the candidate.
        difference: Candidate less reference, paired.
        p_value: Two-sided: DeLong's paired test for AUROC, exact McNemar for the others. None with too few images.
    """

    metric: Metric
    reference: Estimate
    candidate: Estimate
    difference: Estimate
    p_value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Two models on one set of images.

    Attributes:
        images: Number of images.
        patients: Number of patients.
        positives: Number of positive images.
        new_misses: Positives that the reference finds and the candidate misses.
        new_false_alarms: Negatives that the reference clears and the candidate calls positive.
        flips: Images on which the two decide differently.
        metrics: Every figure that is defined: none of a class that is absent.
    """

    images: int
    patients: int
    positives: int
    new_misses: int
    new_false_alarms: int
    flips: int
    metrics: tuple[MetricComparison, ...]


def figures(pair: PairedScores, *, seed: int, resamples: int = RESAMPLES) -> Figures:
    """Compute every figure of a pair.

    Args:
        pair: On all images, or on those of one subgroup.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    counts = {"sensitivity": pair.reference.positives, "specificity": pair.reference.negatives}
    counts["auroc"] = min(counts.values())
    return Figures(
        images=len(pair),
        patients=len(set(pair.reference.patients)),
        positives=pair.reference.positives,
        new_misses=len(pair.new_misses),
        new_false_alarms=len(pair.new_false_alarms),
        flips=len(pair.flips),
        metrics=tuple(_metric(metric, pair, seed, resamples) for metric in get_args(Metric) if counts[metric]),
    )


def _metric(metric: Metric, pair: PairedScores, seed: int, resamples: int) -> MetricComparison:
    of_reference = _statistic(metric, pair.reference_threshold)
    of_candidate = _statistic(metric, pair.candidate_threshold)

    def one(scores: Scores, threshold: float, statistic: Statistic) -> Estimate:
        return Estimate(
            value=statistic(scores.positive, scores.logits),
            interval=_interval(metric, scores, threshold),
            clustered=or_none(lambda: scores.clustered_interval(statistic, seed=seed, resamples=resamples)),
        )

    def difference(positive: BoolArray, reference: FloatArray, candidate: FloatArray) -> float:
        return of_candidate(positive, candidate) - of_reference(positive, reference)

    return MetricComparison(
        metric=metric,
        reference=one(pair.reference, pair.reference_threshold, of_reference),
        candidate=one(pair.candidate, pair.candidate_threshold, of_candidate),
        difference=Estimate(
            value=getattr(pair, f"{metric}_difference"),
            interval=or_none(getattr(pair, f"{metric}_difference_interval")),
            clustered=or_none(lambda: pair.clustered_interval(difference, seed=seed, resamples=resamples)),
        ),
        p_value=or_none(lambda: getattr(pair, f"{metric}_p_value")),
    )


def _statistic(metric: Metric, threshold: float) -> Statistic:
    def sensitivity(positive: BoolArray, logits: FloatArray) -> float:
        return float((logits[positive] >= threshold).mean()) if positive.any() else float("nan")

    def specificity(positive: BoolArray, logits: FloatArray) -> float:
        return float((logits[~positive] < threshold).mean()) if not positive.all() else float("nan")

    return {"auroc": auroc, "sensitivity": sensitivity, "specificity": specificity}[metric]


def _interval(metric: Metric, scores: Scores, threshold: float) -> Interval | None:
    if metric == "auroc":
        return or_none(scores.auroc_interval)
    by_formula = scores.sensitivity_interval if metric == "sensitivity" else scores.specificity_interval
    return or_none(lambda: by_formula(threshold))


def or_none(compute: Callable[[], ValueT]) -> ValueT | None:
    """What is computed, or None where there are too few images or patients to."""
    try:
        return compute()
    except InputError:
        return None
