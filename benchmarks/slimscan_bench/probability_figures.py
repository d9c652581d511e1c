"""What two models' probabilities are worth: predictive values at a prevalence, Brier score, calibration, thresholds.

Figures are computed as in `slimscan_bench.figures`, from logits; each model's own operating point makes probabilities
of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from slimscan_bench.bootstrap import Interval
from slimscan_bench.figures import RESAMPLES, Estimate, Statistic, or_none
from slimscan_bench.intervals import predictive_value
from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.operating_point import OperatingPoint
from slimscan_train.reliability import expected_calibration_error, reliability_bins

ProbabilityMetric = Literal["ppv", "npv", "brier", "calibration error"]
SWEPT = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Probabilities that decisions are swept over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityComparison:
    """One figure of both models.

    Attributes:
        metric: Positive or negative predictive value, Brier score (mean squared error of the probability, 0 is best) or
            expected calibration error (bins of equal mass).
        reference: Of the reference. The calibration error has no interval: on a resample, in which images repeat, it is
            always larger.
        candidate: Of the candidate.
        difference: Candidate less reference, with the interval by patient alone.
    """

    metric: ProbabilityMetric
    reference: Estimate
    candidate: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """Decisions of both models at one probability.

    Attributes:
        threshold: The probability, by each model's own calibration.
        reference: Sensitivity and specificity of the reference.
        candidate: The same of the candidate.
        flips: Images on which the two decide differently.
    """

    threshold: float
    reference: tuple[float, float]
    candidate: tuple[float, float]
    flips: int


def probability_figures(
    pair: PairedScores,
    points: tuple[OperatingPoint, OperatingPoint],
    *,
    prevalence: float | None,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[ProbabilityComparison, ...]:
    """Every figure that is defined: predictive values only at a stated prevalence and with images of both classes.

    Args:
        pair: On all images, or on those of one subgroup.
        points: Of the reference and the candidate.
        prevalence: Share of positives where the model is to be used; no predictive values when None.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    metrics: list[ProbabilityMetric] = ["brier", "calibration error"]
    if prevalence is not None and pair.reference.positives and pair.reference.negatives:
        metrics = ["ppv", "npv", *metrics]
    return tuple(_compared(metric, pair, points, prevalence, seed, resamples) for metric in metrics)


def sweep(pair: PairedScores, points: tuple[OperatingPoint, OperatingPoint]) -> tuple[SweepRow, ...]:
    """Sensitivity, specificity and changed decisions at each of `SWEPT`; nothing when a class is absent."""
    if not (pair.reference.positives and pair.reference.negatives):
        return ()
    both = (pair.reference, pair.candidate)
    probabilities = [_probabilities(scores.logits, point) for scores, point in zip(both, points, strict=True)]
    truth = pair.reference.positive
    rows = []
    for threshold in SWEPT:
        one, other = (values >= threshold for values in probabilities)
        rows.append(
            SweepRow(
                threshold=threshold,
                reference=_rates(one, truth),
                candidate=_rates(other, truth),
                flips=int((one != other).sum()),
            )
        )
    return tuple(rows)


def _compared(
    metric: ProbabilityMetric,
    pair: PairedScores,
    points: tuple[OperatingPoint, OperatingPoint],
    prevalence: float | None,
    seed: int,
    resamples: int,
) -> ProbabilityComparison:
    of_reference, of_candidate = (_statistic(metric, point, prevalence) for point in points)

    def one(scores: Scores, point: OperatingPoint, statistic: Statistic) -> Estimate:
        clustered = None
        if metric != "calibration error":
            clustered = or_none(lambda: scores.clustered_interval(statistic, seed=seed, resamples=resamples))
        interval = _predictive_interval(metric, scores, point, prevalence)
        return Estimate(value=statistic(scores.positive, scores.logits), interval=interval, clustered=clustered)

    def difference(
        positive: NDArray[np.bool_], reference: NDArray[np.float64], candidate: NDArray[np.float64]
    ) -> float:
        return of_candidate(positive, candidate) - of_reference(positive, reference)

    reference, candidate = one(pair.reference, points[0], of_reference), one(pair.candidate, points[1], of_candidate)
    return ProbabilityComparison(
        metric=metric,
        reference=reference,
        candidate=candidate,
        difference=Estimate(
            value=candidate.value - reference.value,
            interval=None,
            clustered=or_none(lambda: pair.clustered_interval(difference, seed=seed, resamples=resamples)),
        ),
    )


def _statistic(metric: ProbabilityMetric, point: OperatingPoint, prevalence: float | None) -> Statistic:
    def brier(positive: NDArray[np.bool_], logits: NDArray[np.float64]) -> float:
        return float(np.mean((_probabilities(logits, point) - positive) ** 2))

    def calibration_error(positive: NDArray[np.bool_], logits: NDArray[np.float64]) -> float:
        return expected_calibration_error(reliability_bins(_probabilities(logits, point), positive))

    def predictive(positive: NDArray[np.bool_], logits: NDArray[np.float64]) -> float:
        assert prevalence is not None
        counts = _counts(positive, logits >= point.logit_threshold)
        return predictive_value(metric == "ppv", *counts, prevalence)[0]

    known: dict[str, Callable[[NDArray[np.bool_], NDArray[np.float64]], float]] = {
        "brier": brier,
        "calibration error": calibration_error,
    }
    return known.get(metric, predictive)


def _predictive_interval(
    metric: ProbabilityMetric, scores: Scores, point: OperatingPoint, prevalence: float | None
) -> Interval | None:
    if metric not in ("ppv", "npv") or prevalence is None:
        return None
    counts = _counts(scores.positive, scores.decisions(point.logit_threshold))
    return predictive_value(metric == "ppv", *counts, prevalence)[1]


def _counts(positive: NDArray[np.bool_], decided: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Positives found, all positives, negatives cleared, all negatives."""
    positives = int(positive.sum())
    return int((decided & positive).sum()), positives, int((~decided & ~positive).sum()), len(positive) - positives


def _rates(decided: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    return float(decided[truth].mean()), float((~decided[~truth]).mean())


def _probabilities(logits: NDArray[np.float64], point: OperatingPoint) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = expit((logits + point.bias) / point.temperature)
    return probabilities


def swept_lines(rows: Sequence[SweepRow]) -> list[str]:
    """The sweep for people, line by line; nothing for no rows."""
    if not rows:
        return []
    return [
        "",
        "threshold   reference sens.  spec.   candidate sens.  spec.   decisions changed",
        *(
            f"  {row.threshold:4.2f}{row.reference[0]:19.4f}{row.reference[1]:9.4f}"
            f"{row.candidate[0]:15.4f}{row.candidate[1]:9.4f}{row.flips:14d}"
            for row in rows
        ),
    ]
