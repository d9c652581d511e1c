"""Figures of one model on one set of images, and the operating point chosen on validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.operating_point import OperatingPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Diagnostic figures at a threshold, each 0 to 1 but the loss.

    Attributes:
        auroc: Area under the receiver operating characteristic.
        sensitivity: Share of positives called positive.
        specificity: Share of negatives called negative.
        loss: Mean binary cross-entropy, natural logarithm.
    """

    auroc: float
    sensitivity: float
    specificity: float
    loss: float


def figures(logits: NDArray[np.float64], positive: NDArray[np.bool_], threshold: float) -> Figures:
    """Figures of logits `[N]` against labels `[N]` at a logit threshold; NaN where a class that they need is absent."""
    from sklearn.metrics import roc_auc_score

    called = logits >= threshold
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return Figures(
        auroc=float(roc_auc_score(positive, logits)) if positives and negatives else float("nan"),
        sensitivity=float(called[positive].mean()) if positives else float("nan"),
        specificity=float((~called)[~positive].mean()) if negatives else float("nan"),
        loss=cross_entropy(logits, positive),
    )


def cross_entropy(logits: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Mean binary cross-entropy, natural logarithm, computed without overflow."""
    return float(np.mean(np.logaddexp(0.0, logits) - np.where(positive, logits, 0.0)))


def threshold_at_sensitivity(logits: NDArray[np.float64], positive: NDArray[np.bool_], target: float) -> float:
    """The highest logit threshold that keeps a sensitivity, midway to the nearest score below it.

    Args:
        logits: Scores `[N]`.
        positive: Labels `[N]`.
        target: Sensitivity to keep, 0 to 1.

    Returns:
        A logit. At it, at least `target` of the positives score as high or higher.
    """
    scores = np.sort(logits[positive])
    missed = int(np.floor((1.0 - target) * len(scores) + 1e-9))
    lowest_kept = scores[missed]
    below = logits[logits < lowest_kept]
    return float((lowest_kept + below.max()) / 2.0) if len(below) else float(lowest_kept)


def fit_calibration(logits: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Temperature and bias with which logits tell how often they are right (Platt 1999, with his soft targets).

    Args:
        logits: Scores `[N]`.
        positive: Labels `[N]`.

    Returns:
        Temperature, 0.05 to 20, and bias: the probability is `sigmoid((logit + bias) / temperature)`.
    """
    from scipy.optimize import minimize

    positives, negatives = int(positive.sum()), int((~positive).sum())
    targets = np.where(positive, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scaled = line[0] * logits + line[1]
        excess = 1.0 / (1.0 + np.exp(-np.clip(scaled, -500.0, 500.0))) - targets
        return float(np.mean(np.logaddexp(0.0, scaled) - targets * scaled)), np.array(
            [np.mean(excess * logits), np.mean(excess)]
        )

    found = minimize(loss, (1.0, 0.0), jac=True, method="L-BFGS-B", bounds=((0.05, 20.0), (None, None)))
    slope, intercept = found.x
    return float(1.0 / slope), float(intercept / slope)


def threshold_interval(
    logits: NDArray[np.float64],
    positive: NDArray[np.bool_],
    patients: Sequence[str],
    target: float,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """How far the threshold itself is uncertain: its central 95 % over resampled patients.

    Args:
        logits: Scores `[N]`.
        positive: Labels `[N]`.
        patients: Whose each image is; patients are drawn whole, with replacement (percentile bootstrap).
        target: Sensitivity to keep, 0 to 1.
        resamples: How many draws.
        seed: Of the draws.

    Returns:
        Lower and upper end, as logits.
    """
    rng = np.random.default_rng(seed)
    names, owner = np.unique(np.asarray(patients)[positive], return_inverse=True)
    scores = logits[positive]
    order = np.argsort(scores)
    thresholds = np.empty(resamples)
    for draw in range(resamples):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[owner][order]
        missed = np.floor((1.0 - target) * times.sum() + 1e-9)
        thresholds[draw] = scores[order][np.searchsorted(np.cumsum(times), missed, side="right")]
    low, high = np.quantile(thresholds, (0.025, 0.975))
    return float(low), float(high)


def choose_operating_point(
    logits: NDArray[np.float64],
    positive: NDArray[np.bool_],
    patients: Sequence[str],
    *,
    target_sensitivity: float,
    chosen_on: str,
) -> OperatingPoint:
    """Temperature, bias, threshold and refer band from validation scores.

    The refer band is the threshold's own 95 % interval: which side of the threshold such a case lies on depends on
    which patients happened to be in validation, so a person should look.

    Args:
        logits: Scores `[N]` of validation images.
        positive: Labels `[N]`.
        patients: Whose each image is.
        target_sensitivity: Sensitivity to keep on them.
        chosen_on: What they are, in words.
    """
    temperature, bias = fit_calibration(logits, positive)

    def probability(logit: float) -> float:
        return float(np.clip(1.0 / (1.0 + np.exp(-(logit + bias) / temperature)), 1e-6, 1.0 - 1e-6))

    chosen = threshold_at_sensitivity(logits, positive, target_sensitivity)
    low, high = threshold_interval(logits, positive, patients, target_sensitivity)
    return OperatingPoint(
        temperature=temperature,
        bias=bias,
        threshold=probability(chosen),
        target_sensitivity=target_sensitivity,
        refer_low=probability(min(low, chosen)),
        refer_high=probability(max(high, chosen)),
        chosen_on=chosen_on,
    )
