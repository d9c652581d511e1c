"""Intervals and tests for proportions and for the area under the ROC curve: pure functions of counts and scores.

SciPy and statsmodels compute what they have; what they lack (Newcombe's and Tango's paired intervals, DeLong) is
written out here. Where images of one patient are alike, `slimscan_bench.clustering` says what they are worth.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from slimscan_bench.bootstrap import Interval
from slimscan_edge.errors import InputError
from slimscan_train.intervals import clustered_variance


class PairedTable(NamedTuple):
    """How many observations each of two raters got right: the 2x2 table of paired proportions.

    Attributes:
        both: Both right.
        reference_only: Reference right, candidate wrong.
        candidate_only: Candidate right, reference wrong.
        neither: Both wrong.
    """

    both: int
    reference_only: int
    candidate_only: int
    neither: int

    @property
    def difference(self) -> float:
        """Share right of the candidate less that of the reference, -1 to 1."""
        return (self.candidate_only - self.reference_only) / _checked_total(self)


class DeLong(NamedTuple):
    """AUROC of K models on the same images.

    Attributes:
        auroc: float64 `[K]`.
        covariance: float64 `[K, K]`, of the estimates in `auroc`.
    """

    auroc: NDArray[np.float64]
    covariance: NDArray[np.float64]


def clopper_pearson(k: float, n: float, confidence: float = 0.95) -> Interval:
    """Exact two-sided interval of a proportion (Clopper and Pearson 1934, Biometrika 26:404).

    Args:
        k: Successes; of an effective sample they need not be whole.
        n: Trials, at least one.
        confidence: 0 to 1.

    Raises:
        InputError: `k` of `n` is no proportion, or the confidence is not between 0 and 1.
    """
    return _proportion_interval(k, n, confidence, "beta")


def clopper_pearson_upper(k: float, n: float, confidence: float = 0.95) -> float:
    """Exact one-sided upper bound of a proportion; with no success `1 - (1 - confidence)**(1/n)`.

    Raises:
        InputError: As for `clopper_pearson`.
    """
    return _proportion_interval(k, n, confidence, "beta", tails=1).high


def wilson(k: float, n: float, confidence: float = 0.95) -> Interval:
    """Score interval of a proportion, without continuity correction (Wilson 1927, JASA 22:209).

    Raises:
        InputError: As for `clopper_pearson`.
    """
    return _proportion_interval(k, n, confidence, "wilson")


def newcombe_paired(table: PairedTable, confidence: float = 0.95) -> Interval:
    """Interval of the candidate's proportion less the reference's, on the same observations.

    Method 10 of Newcombe 1998 (Statistics in Medicine 17:2635): two Wilson intervals, squared and added with
    the correlation phi, whose numerator is corrected for continuity when positive.

    Raises:
        InputError: The table holds no observation or a negative count.
    """
    n = _checked_total(table)
    k_candidate, k_reference = table.both + table.candidate_only, table.both + table.reference_only
    candidate, reference = k_candidate / n, k_reference / n
    low_c, high_c = wilson(k_candidate, n, confidence)
    low_r, high_r = wilson(k_reference, n, confidence)
    phi = _corrected_phi(table)

    def joined(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    difference = candidate - reference
    return Interval(
        max(-1.0, difference - joined(candidate - low_c, high_r - reference)),
        min(1.0, difference + joined(high_c - candidate, reference - low_r)),
    )


def tango_paired(gained: float, lost: float, n: float, confidence: float = 0.95) -> Interval:
    """Score interval of the candidate's proportion less the reference's (Tango 1998, Statistics in Medicine 17:891).

    The test's variance is that under each difference tried, so that the interval has a width even where no
    observation changed: then `z**2 / (n + z**2)` to both sides.

    Args:
        gained: Observations that the candidate alone gets right; of an effective sample they need not be whole.
        lost: Those that the reference alone gets right.
        n: All observations, those on which both agree among them.
        confidence: 0 to 1.

    Raises:
        InputError: The counts are none of a sample, or the confidence is not between 0 and 1.
    """
    if not (gained >= 0 and lost >= 0 and n > 0 and gained + lost <= n * (1 + 1e-12)):
        raise InputError(f"got {gained} gained and {lost} lost of {n}, expected counts out of a sample")
    z = _z(confidence)

    def score(difference: float) -> float:
        linear = (2 * n - gained + lost) * difference - gained - lost
        constant = -lost * difference * (1 - difference)
        lost_share = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * lost_share + difference * (1 - difference))
        return (gained - lost - n * difference) / math.sqrt(max(variance, 1e-300))

    seen, edge = (gained - lost) / n, 1 - 1e-12
    low = brentq(lambda difference: score(difference) - z, -edge, seen, xtol=1e-12) if seen > -edge else -1.0
    high = brentq(lambda difference: score(difference) + z, seen, edge, xtol=1e-12) if seen < edge else 1.0
    return Interval(float(low), float(high))


def mcnemar_exact(table: PairedTable) -> float:
    """Two-sided p-value that two raters err equally often: exact, conditional on the discordant pairs.

    McNemar 1947 (Psychometrika 12:153) with the binomial distribution in place of its approximation. Without
    a discordant pair it is 1.

    Raises:
        InputError: The table holds no observation or a negative count.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    _checked_total(table)
    return float(mcnemar([[table.both, table.reference_only], [table.candidate_only, table.neither]]).pvalue)


def predictive_value(
    positive: bool,
    found: int,
    positives: int,
    cleared: int,
    negatives: int,
    prevalence: float,
    confidence: float = 0.95,
) -> tuple[float, Interval]:
    """Share of positive decisions that are right where the disease has a prevalence, or of negative ones; its interval.

    Bayes' theorem on sensitivity and specificity, which were measured on positives and negatives taken as given; the
    interval is that of the logit, by the delta method (Mercaldo, Lau and Zhou 2007, Statistics in Medicine 26:2170).
    Where a decision was always right or always wrong, half of the squared normal quantile, 1.92 at 95 %, is added to
    successes and failures of both proportions for the interval: their adjusted logit interval.

    Args:
        positive: The positive predictive value; the negative one when False.
        found: Positives decided positive.
        positives: All positives.
        cleared: Negatives decided negative.
        negatives: All negatives.
        prevalence: Share of positives where the model is used, between 0 and 1.
        confidence: 0 to 1.

    Returns:
        The value, NaN where no decision is of that kind, and its interval.

    Raises:
        InputError: A class is absent, or the prevalence is not between 0 and 1.
    """
    if not (0 < prevalence < 1 and positives > 0 and negatives > 0):
        raise InputError(
            f"got {positives} positive and {negatives} negative images and a prevalence of {prevalence}, "
            "expected some of both and a share between 0 and 1"
        )
    sensitivity, specificity = found / positives, cleared / negatives
    right, wrong = (sensitivity * prevalence, (1 - specificity) * (1 - prevalence))
    if not positive:
        right, wrong = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    value = right / (right + wrong) if right + wrong else math.nan
    z = _z(confidence)
    if not (0 < found < positives and 0 < cleared < negatives):
        of_positives, of_negatives = positives + z**2, negatives + z**2
        sensitivity, specificity = (found + z**2 / 2) / of_positives, (cleared + z**2 / 2) / of_negatives
    else:
        of_positives, of_negatives = float(positives), float(negatives)
    if positive:
        odds = sensitivity * prevalence / ((1 - specificity) * (1 - prevalence))
        variance = (1 - sensitivity) / (sensitivity * of_positives) + specificity / ((1 - specificity) * of_negatives)
    else:
        odds = specificity * (1 - prevalence) / ((1 - sensitivity) * prevalence)
        variance = sensitivity / ((1 - sensitivity) * of_positives) + (1 - specificity) / (specificity * of_negatives)
    reach = z * math.sqrt(variance)
    return value, Interval(_expit(math.log(odds) - reach), _expit(math.log(odds) + reach))


def auroc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    Args:
        positive: bool `[n]`.
        scores: `[n]`, higher for positive.

    Raises:
        InputError: There is no positive or no negative.
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not (positives and negatives):
        raise InputError(f"got {positives} positive and {negatives} negative images, an AUROC needs some of both")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def delong(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> DeLong:
    """AUROC of K models and its covariance (DeLong et al. 1988, Biometrics 44:837).

    Computed from midranks in O(K n log n) (Sun and Xu 2014, IEEE Signal Processing Letters 21:1389).

    Args:
        positive: bool `[n]`.
        scores: float64 `[K, n]`, higher for positive.

    Raises:
        InputError: There are fewer than two positives or two negatives.
    """
    found, cleared = _placements(positive, scores)
    covariance = np.cov(found) / found.shape[1] + np.cov(cleared) / cleared.shape[1]
    return DeLong(auroc=found.mean(axis=1), covariance=np.atleast_2d(covariance))


def delong_interval(positive: NDArray[np.bool_], scores: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """Interval of one model's AUROC: DeLong's variance on the logit scale, which keeps it within 0 and 1.

    The transformation is that of Pepe 2003 (The Statistical Evaluation of Medical Tests, 5.2.4). An AUROC of
    exactly 1 or 0 has no variance to build on. Then min(positives, negatives) disjoint pairs of a positive and
    a negative, all ordered alike, are as many independent trials without a failure, and the exact binomial
    bound of those holds (wide, but true).

    Args:
        positive: bool `[n]`.
        scores: float64 `[n]`, higher for positive.
        confidence: 0 to 1.

    Raises:
        InputError: As for `delong`.
    """
    result = delong(positive, scores[np.newaxis])
    area, variance = float(result.auroc[0]), float(result.covariance[0, 0])
    pairs = min(int(positive.sum()), int((~positive).sum()))
    if area in (0.0, 1.0):
        return clopper_pearson(round(area) * pairs, pairs, confidence)
    reach = _z(confidence) * math.sqrt(variance) / (area * (1 - area))
    centre = math.log(area / (1 - area))
    return Interval(_expit(centre - reach), _expit(centre + reach))


def delong_difference(
    positive: NDArray[np.bool_],
    reference: NDArray[np.float64],
    candidate: NDArray[np.float64],
    confidence: float = 0.95,
    patients: Sequence[str] | None = None,
) -> Interval:
    """Interval of the candidate's AUROC less the reference's, on the same images.

    Models that order every positive and negative alike have no variance between them and get an interval
    without width; it says that nothing changed here, not that nothing can.

    Args:
        positive: bool `[n]`.
        reference: float64 `[n]`, higher for positive.
        candidate: The same of the other model.
        confidence: 0 to 1.
        patients: Whose each image is, where some have several: the placements' changes are then summed by patient
            (Obuchowski 1997, Biometrics 53:567). Images are taken as independent without.

    Raises:
        InputError: As for `delong`; or there are fewer than two patients of a class.
    """
    difference, deviation = _delong_contrast(positive, reference, candidate, patients)
    reach = _z(confidence) * deviation
    return Interval(max(-1.0, difference - reach), min(1.0, difference + reach))


def delong_test(positive: NDArray[np.bool_], reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> float:
    """Two-sided p-value that two models have the same AUROC, on the same images (DeLong et al. 1988).

    Raises:
        InputError: As for `delong`.
    """
    difference, deviation = _delong_contrast(positive, reference, candidate)
    if deviation == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * norm.sf(abs(difference) / deviation))


def _delong_contrast(
    positive: NDArray[np.bool_],
    reference: NDArray[np.float64],
    candidate: NDArray[np.float64],
    patients: Sequence[str] | None = None,
) -> tuple[float, float]:
    found, cleared = _placements(positive, np.stack([reference, candidate]))
    # Of the differences themselves: models that order alike then have a variance of exactly 0.
    changes = np.empty(len(positive))
    changes[positive], changes[~positive] = np.diff(found, axis=0)[0], np.diff(cleared, axis=0)[0]
    difference = float(changes[positive].mean())
    owners = [str(image) for image in range(len(positive))] if patients is None else patients
    return difference, math.sqrt(clustered_variance(positive, changes - difference, owners))


def _placements(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of negatives below each positive, `[K, positives]`; of positives above each negative, `[K, negatives]`."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives < 2 or negatives < 2:
        raise InputError(f"got {positives} positive and {negatives} negative images, DeLong needs two of each")
    ranks = rankdata(scores, axis=1)
    found = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / negatives
    cleared = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / positives
    return found, cleared


def _corrected_phi(table: PairedTable) -> float:
    """Newcombe's phi: `(ad - bc - n/2) / sqrt(...)` where that stays above 0, 0 where it would not."""
    a, b, c, d = table
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    numerator = a * d - b * c
    return (max(0.0, numerator - sum(table) / 2) if numerator > 0 else numerator) / math.sqrt(margins)


def _checked_total(table: PairedTable) -> int:
    if min(table) < 0 or sum(table) == 0:
        raise InputError(f"got the paired table {tuple(table)}, expected counts of at least one observation")
    return sum(table)


def _proportion_interval(
    k: float, n: float, confidence: float, method: Literal["beta", "wilson"], *, tails: Literal[1, 2] = 2
) -> Interval:
    """With one tail, either end is a bound at the confidence by itself."""
    from statsmodels.stats.proportion import proportion_confint

    if not (n >= 1 and 0 <= k <= n):
        raise InputError(f"got {k} of {n}, expected a count out of at least one observation")
    low, high = proportion_confint(k, n, alpha=(1 - _checked(confidence)) * 2 / tails, method=method)
    return Interval(float(low), float(high))


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}, expected a number between 0 and 1")
    return confidence


def _z(confidence: float) -> float:
    return float(norm.ppf((1 + _checked(confidence)) / 2))


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
