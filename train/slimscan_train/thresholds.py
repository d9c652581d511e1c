"""The operating point: one threshold that holds its sensitivity wherever validation looked.

A threshold chosen on random validation patients alone misses its sensitivity as soon as the pictures come from
another machine. So it is the lowest that any validation set asks for: random patients, later ones, and the named
image shifts. How far it may go down for that is bounded by a specificity on the first of the sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.operating_point import OperatingPoint
from slimscan_train.metrics import fit_calibration


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredSet:
    """One model's scores of one set of validation images.

    Attributes:
        logits: Scores `[N]`.
        positive: Labels `[N]`.
        patients: Whose each image is.
    """

    logits: NDArray[np.float64]
    positive: NDArray[np.bool_]
    patients: Sequence[str]


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


def lowest_threshold(sets: Sequence[ScoredSet], target_sensitivity: float, least_specificity: float) -> float:
    """The highest logit threshold that keeps a sensitivity on every set and, first of all, a specificity on the first.

    Args:
        sets: Of one model; those without a positive ask for nothing.
        target_sensitivity: To keep on each, 0 to 1.
        least_specificity: To keep on the first, 0 to 1; where both cannot be, this one is kept.
    """
    asked = min(threshold_at_sensitivity(s.logits, s.positive, target_sensitivity) for s in sets if s.positive.any())
    negatives = sets[0].logits[~sets[0].positive]
    if not len(negatives) or np.mean(negatives < asked) >= least_specificity - 1e-9:
        return asked
    return _threshold_at_specificity(sets[0], least_specificity)


def threshold_interval(
    sets: Sequence[ScoredSet],
    target_sensitivity: float,
    least_specificity: float,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """How far the threshold itself is uncertain: its central 95 % over resampled patients.

    Patients are drawn whole and with replacement, and one drawn is drawn in every set (percentile bootstrap).

    Args:
        sets: As for `lowest_threshold`.
        target_sensitivity: As there.
        least_specificity: As there.
        resamples: How many draws.
        seed: Of the draws.

    Returns:
        Lower and upper end, as logits.
    """
    rng = np.random.default_rng(seed)
    names, owners = np.unique(np.concatenate([s.patients for s in sets]), return_inverse=True)
    of_set = np.split(owners, np.cumsum([len(s.logits) for s in sets])[:-1])
    positives = [_Sorted(s.logits, s.positive, owner) for s, owner in zip(sets, of_set, strict=True)]
    negatives = _Sorted(sets[0].logits, ~sets[0].positive, of_set[0])
    thresholds = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        asked = [found for scores in positives if (found := scores.at(1.0 - target_sensitivity, times)) is not None]
        floor = negatives.at(least_specificity, times)
        if asked:
            thresholds.append(min(asked) if floor is None else max(min(asked), floor))
    low, high = np.quantile(thresholds, (0.025, 0.975))
    return float(low), float(high)


def choose_operating_point(
    sets: Sequence[ScoredSet], *, target_sensitivity: float, least_specificity: float, chosen_on: str
) -> OperatingPoint:
    """Temperature, bias, threshold and refer band from validation scores.

    The refer band is the threshold's own 95 % interval: which side of the threshold such a case lies on depends on
    which patients happened to be in validation, so a person should look.

    Args:
        sets: Of one model: validation images as they are, on which probabilities are calibrated; then any others.
        target_sensitivity: Sensitivity to keep on each set.
        least_specificity: Specificity to keep on the first, even where the sensitivity is then missed.
        chosen_on: What they are, in words.
    """
    temperature, bias = fit_calibration(sets[0].logits, sets[0].positive)

    def probability(logit: float) -> float:
        return float(np.clip(1.0 / (1.0 + np.exp(-(logit + bias) / temperature)), 1e-6, 1.0 - 1e-6))

    chosen = lowest_threshold(sets, target_sensitivity, least_specificity)
    low, high = threshold_interval(sets, target_sensitivity, least_specificity)
    return OperatingPoint(
        temperature=temperature,
        bias=bias,
        threshold=probability(chosen),
        target_sensitivity=target_sensitivity,
        refer_low=probability(min(low, chosen)),
        refer_high=probability(max(high, chosen)),
        chosen_on=chosen_on,
    )


def _threshold_at_specificity(scored: ScoredSet, least: float) -> float:
    """The lowest threshold that keeps a specificity: midway between the last score to be cleared and the next."""
    scores = np.sort(scored.logits[~scored.positive])
    cleared = int(np.ceil(least * len(scores) - 1e-9))
    if not cleared:
        return -np.inf
    above = scored.logits[scored.logits > scores[cleared - 1]]
    return float((scores[cleared - 1] + above.min()) / 2.0) if len(above) else float(scores[cleared - 1]) + 1.0


class _Sorted:
    """The scores of one class in one set, ready to be cut at a share under any weights of its patients."""

    def __init__(self, logits: NDArray[np.float64], chosen: NDArray[np.bool_], owner: NDArray[np.int64]) -> None:
        order = np.argsort(logits[chosen])
        self._scores, self._owner = logits[chosen][order], owner[chosen][order]

    def at(self, share: float, times: NDArray[np.int64]) -> float | None:
        """The first score that is not among the lowest `share`, None when no patient was drawn."""
        below = np.cumsum(times[self._owner])
        if not len(below) or not below[-1]:
            return None
        index = np.searchsorted(below, np.floor(share * below[-1] + 1e-9), side="right")
        return float(self._scores[min(index, len(self._scores) - 1)])
