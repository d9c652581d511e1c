"""Figures of one model on one set of images, and what makes its scores probabilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
