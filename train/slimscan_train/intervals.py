"""Estimates with 95 % intervals: exact for a proportion, clustered by patient for the area under the ROC curve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import InputError

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval, all 0 to 1."""

    value: float
    low: float
    high: float


def proportion(hits: int, total: int) -> Estimate | None:
    """A proportion with its exact interval (Clopper and Pearson 1934, Biometrika 26:404); None of nothing.

    Args:
        hits: Successes.
        total: Trials, taken as independent.
    """
    from scipy.stats import binomtest

    if total == 0:
        return None
    interval = binomtest(hits, total).proportion_ci(CONFIDENCE, "exact")
    return Estimate(value=hits / total, low=float(interval.low), high=float(interval.high))


def clustered_auroc(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], patients: Sequence[str]
) -> Estimate | None:
    """AUROC with an interval that knows which images are of one patient; None when a class is absent.

    DeLong's variance with the placement values summed by patient (Obuchowski 1997, Biometrics 53:567), laid on the
    logit scale so that the interval stays within 0 and 1. An AUROC of exactly 0 or 1 has no variance: then as many
    disjoint pairs of a positive and a negative patient as there are count as trials that all went one way, and the
    exact interval of those is given. With fewer than two patients of a class nothing is known: 0 to 1.

    Args:
        positive: Labels `[N]`.
        scores: `[N]`, higher for positive.
        patients: Identity of each image's patient, `[N]`.
    """
    from scipy.special import expit, logit
    from scipy.stats import norm, rankdata

    if positive.all() or not positive.any():
        return None
    ranks = rankdata(scores)
    placements = np.empty(len(scores))  # share of the other class that each image is on the right side of
    placements[positive] = (ranks[positive] - rankdata(scores[positive])) / (~positive).sum()
    placements[~positive] = 1.0 - (ranks[~positive] - rankdata(scores[~positive])) / positive.sum()
    area = float(placements[positive].mean())
    of_positives, of_negatives = len(set(_pick(patients, positive))), len(set(_pick(patients, ~positive)))
    if min(of_positives, of_negatives) < 2:
        return Estimate(value=area, low=0.0, high=1.0)
    if area in (0.0, 1.0):
        pairs = min(of_positives, of_negatives)
        return proportion(round(area) * pairs, pairs)
    variance = clustered_variance(positive, placements - area, patients)
    reach = norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt(variance) / (area * (1 - area))
    return Estimate(value=area, low=float(expit(logit(area) - reach)), high=float(expit(logit(area) + reach)))


def clustered_variance(positive: NDArray[np.bool_], deviations: NDArray[np.float64], patients: Sequence[str]) -> float:
    """Variance of an AUROC, or of the difference of two, with images of one patient alike (Obuchowski 1997).

    Args:
        positive: Labels `[N]`.
        deviations: Each image's placement less the AUROC, or the change of it less the change of the AUROC, `[N]`.
        patients: Identity of each image's patient, `[N]`; at least two of either class.

    Raises:
        InputError: There are fewer patients of a class.
    """
    names, owner = np.unique(np.array(patients), return_inverse=True)
    of_positives, of_negatives = len(np.unique(owner[positive])), len(np.unique(owner[~positive]))
    if min(of_positives, of_negatives) < 2:
        raise InputError(f"got {of_positives} positive and {of_negatives} negative patients, expected two of each")
    found = np.bincount(owner, deviations * positive) / positive.sum()  # by patient
    cleared = np.bincount(owner, deviations * ~positive) / (~positive).sum()
    return float(
        of_positives / (of_positives - 1) * (found**2).sum()
        + of_negatives / (of_negatives - 1) * (cleared**2).sum()
        + 2.0 * len(names) / (len(names) - 1) * (found * cleared).sum()
    )


def _pick(values: Sequence[str], keep: NDArray[np.bool_]) -> list[str]:
    return [value for value, kept in zip(values, keep, strict=True) if kept]
