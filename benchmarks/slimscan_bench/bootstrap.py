"""The bootstrap, with whole clusters (patients, rounds of measurement) as what is drawn. NumPy only."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import InputError

MAX_UNDEFINED = 0.05
"""Share of resamples that may leave a statistic undefined (no positive drawn, say) before the interval is refused."""


class Interval(NamedTuple):
    """Two ends of a confidence interval, both included."""

    low: float
    high: float


def interval_text(interval: Interval | None, digits: int) -> str:
    """The two ends; a dash for none."""
    return "-" if interval is None else f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def clustered_replicates(
    statistic: Callable[[NDArray[np.intp]], float], clusters: Sequence[str], *, seed: int, resamples: int = 2000
) -> NDArray[np.float64]:
    """Compute a statistic on resamples of whole clusters, drawn with replacement.

    Images of one patient are alike, so drawing images one by one makes every interval too narrow; the
    independent unit is the patient (Davison and Hinkley 1997, Bootstrap Methods and their Application, 3.8).

    Args:
        statistic: Takes the indices of the observations drawn (int `[n]`, repeats included, `n` varies with
            the clusters' sizes) and returns a number, or NaN where it is undefined.
        clusters: Cluster of each observation.
        seed: Of the random draws; the same seed gives the same replicates.
        resamples: How many.

    Returns:
        float64 `[resamples]`, NaN where the statistic was undefined.

    Raises:
        InputError: There is nothing to draw from, or fewer than two clusters.
    """
    names, cluster_of = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise InputError(f"got observations of {len(names)} clusters (patients), a bootstrap needs at least two")
    order = np.argsort(cluster_of, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(cluster_of))[:-1])
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(names), size=(resamples, len(names)))
    return np.array([statistic(np.concatenate([members[c] for c in draw])) for draw in draws], dtype=np.float64)


def draw_rounds(generator: np.random.Generator, rounds: int, processes: int) -> NDArray[np.intp]:
    """Draw rounds of measurement, int `[rounds]`: processes with replacement, and in each of them rounds likewise.

    Two processes of one program differ for as long as they live, by where their memory lies, so that the rounds of one
    are alike as the images of a patient are (Davison and Hinkley 1997, 3.8).

    Args:
        generator: Of the random draws.
        rounds: How many there are, those of the first process first, as many of each.
        processes: How many processes they were taken in.
    """
    each = rounds // processes
    chosen = generator.integers(processes, size=(processes, 1))
    return (chosen * each + generator.integers(each, size=(processes, each))).ravel()


def percentile_interval(replicates: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """The percentile interval of bootstrap replicates (Efron and Tibshirani 1993, chapter 13).

    Args:
        replicates: float64 `[resamples]`; NaN where the statistic was undefined.
        confidence: Two-sided, 0 to 1.

    Raises:
        InputError: More than `MAX_UNDEFINED` of the replicates are undefined.
    """
    defined = replicates[~np.isnan(replicates)]
    if len(defined) < (1 - MAX_UNDEFINED) * len(replicates) or not len(defined):
        raise InputError(
            f"the statistic is undefined in {len(replicates) - len(defined)} of {len(replicates)} resamples; "
            "there are too few patients of one class for a bootstrap interval"
        )
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, (tail, 1 - tail))
    return Interval(float(low), float(high))


def clustered_interval(
    statistic: Callable[[NDArray[np.intp]], float],
    clusters: Sequence[str],
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile interval of a statistic, clusters resampled: `clustered_replicates`, then `percentile_interval`.

    Raises:
        InputError: As for either.
    """
    return percentile_interval(clustered_replicates(statistic, clusters, seed=seed, resamples=resamples), confidence)
