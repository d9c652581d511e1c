"""Figures of one model on one set of images, and the operating point chosen on validation."""

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
    """Figures of logits `[N]` against labels `[N]` at a logit threshold; both classes must be present."""
    from sklearn.metrics import roc_auc_score

    called = logits >= threshold
    return Figures(
        auroc=float(roc_auc_score(positive, logits)),
        sensitivity=float(called[positive].mean()),
        specificity=float((~called)[~positive].mean()),
        loss=cross_entropy(logits, positive),
    )


def cross_entropy(logits: NDArray[np.float64], positive: NDArray[np.bool_], temperature: float = 1.0) -> float:
    """Mean binary cross-entropy of `logits / temperature`, computed without overflow."""
    scaled = logits / temperature
    return float(np.mean(np.logaddexp(0.0, scaled) - np.where(positive, scaled, 0.0)))


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


def fit_temperature(logits: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The temperature with the least cross-entropy (Guo et al. 2017, arXiv:1706.04599), 0.05 to 20.

    Cross-entropy is convex in 1 / temperature: a golden-section search on it finds the minimum.
    """
    low, high = 0.05, 20.0
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    while high - low > 1e-4 * high:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if cross_entropy(logits, positive, 1.0 / left) < cross_entropy(logits, positive, 1.0 / right):
            high = right
        else:
            low = left
    return float(2.0 / (low + high))


def choose_operating_point(
    logits: NDArray[np.float64], positive: NDArray[np.bool_], *, target_sensitivity: float, chosen_on: str
) -> OperatingPoint:
    """Temperature and threshold from validation scores; no refer band.

    Args:
        logits: Scores `[N]` of validation images.
        positive: Labels `[N]`.
        target_sensitivity: Sensitivity to keep on them.
        chosen_on: What they are, in words.
    """
    temperature = fit_temperature(logits, positive)
    scaled = threshold_at_sensitivity(logits, positive, target_sensitivity) / temperature
    threshold = float(np.clip(1.0 / (1.0 + np.exp(-scaled)), 1e-6, 1.0 - 1e-6))
    return OperatingPoint(
        temperature=temperature,
        threshold=threshold,
        target_sensitivity=target_sensitivity,
        refer_low=threshold,
        refer_high=threshold,
        chosen_on=chosen_on,
    )
