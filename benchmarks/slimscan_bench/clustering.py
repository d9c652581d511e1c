"""What images are worth when several are of one patient: bounds that do not take them for independent.

Images of a patient are alike, so n of them say less than n patients would. How much less is estimated from the
observations themselves (the design effect), and the bounds are then those of as many independent observations.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from slimscan_bench.intervals import clopper_pearson_upper, tango_paired
from slimscan_edge.errors import InputError


def design_effect(values: NDArray[np.float64], clusters: Sequence[str]) -> float | None:
    """Variance of a mean with clusters as what was drawn, over its variance had each observation been drawn alone.

    The variance is that of a ratio (Rao and Scott 1992, Biometrics 48:577), with `n - 1` in place of `n` in the
    denominator, so that observations which all are clusters of their own have a design effect of exactly 1.

    Args:
        values: float64 `[n]`.
        clusters: Cluster of each observation.

    Returns:
        0 or more; None where nothing varies or there are fewer than two clusters.

    Raises:
        InputError: There is no observation, or not one cluster for each.
    """
    owner, count = _owners(values, clusters)
    deviations = values - values.mean()
    if count < 2 or not deviations.any():
        return None
    between = (np.bincount(owner, deviations) ** 2).sum() * count / (count - 1)
    alone = (deviations**2).sum() * len(values) / (len(values) - 1)
    return float(between / alone)


def effective_number(values: NDArray[np.float64], clusters: Sequence[str], confidence: float = 0.95) -> float:
    """How many independent observations clustered ones are worth for a bound on their mean.

    Their number over the design effect, adjusted to the degrees of freedom that the clusters leave (Korn and
    Graubard 1998, Survey Methodology 24:193), and never more than there are. Where nothing varies, the design
    effect cannot be told and a cluster counts once.

    Args:
        values: float64 `[n]`.
        clusters: Cluster of each observation.
        confidence: Of the one-sided bound, 0 to 1.

    Returns:
        1 to n.

    Raises:
        InputError: As for `design_effect`.
    """
    _, count = _owners(values, clusters)
    effect = design_effect(values, clusters)
    if effect is None:
        return float(count)
    freedom = (student.ppf(confidence, len(values) - 1) / student.ppf(confidence, count - 1)) ** 2
    return float(min(max(1.0, len(values) * freedom / max(effect, 1.0)), len(values)))


def clustered_upper(
    events: NDArray[np.bool_], clusters: Sequence[str], confidence: float = 0.95, times: float = 1.0
) -> float:
    """One-sided upper bound of a rate: Clopper and Pearson's, of the effective number of observations.

    As in Korn and Graubard 1998. It is never below the bound of as many clusters without an event, which is what
    few events could otherwise undercut. Observations that all are clusters of their own give the exact bound.

    Args:
        events: bool `[n]`, at least one observation.
        clusters: Cluster of each observation.
        confidence: 0 to 1.
        times: Had there been so many times as many observations and clusters, just like these: 1 or more.

    Raises:
        InputError: As for `design_effect`, or the confidence is not between 0 and 1.
    """
    values = events.astype(np.float64)
    number = effective_number(values, clusters, confidence) * times
    no_event = clopper_pearson_upper(0, _owners(values, clusters)[1] * times, confidence)
    return max(no_event, clopper_pearson_upper(float(values.mean()) * number, number, confidence))


def clustered_loss(
    changes: NDArray[np.float64], clusters: Sequence[str], confidence: float = 0.95, times: float = 1.0
) -> float:
    """One-sided upper bound of what a proportion lost: Tango's, of the effective number of observations.

    The design effect is that of the changes, with Obuchowski's variance (1998, Statistics in Medicine 17:1495). The
    bound is never below that of as many clusters without a change.

    Args:
        changes: float64 `[n]`: 1 where the candidate alone is right, -1 where the reference alone is, else 0.
        clusters: Cluster of each observation.
        confidence: 0 to 1.
        times: As for `clustered_upper`.

    Returns:
        -1 to 1: above 0 for a loss; below when even the bound is a gain.

    Raises:
        InputError: As for `design_effect`, or the confidence is not between 0 and 1.
    """
    number = effective_number(changes, clusters, confidence) * times
    gained, lost = (float((changes == sign).mean()) * number for sign in (1, -1))
    two_sided = 2 * confidence - 1
    no_change = tango_paired(0, 0, _owners(changes, clusters)[1] * times, two_sided)
    return -min(tango_paired(gained, lost, number, two_sided).low, no_change.low)


def _owners(values: NDArray[np.float64], clusters: Sequence[str]) -> tuple[NDArray[np.intp], int]:
    """Number of each observation's cluster, and of clusters."""
    if not len(values) or len(values) != len(clusters):
        raise InputError(f"got {len(values)} observations of {len(clusters)} clusters, expected a cluster for each")
    names, owner = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    return owner, len(names)
