"""Predictive values, Brier score, calibration error and the sweep of thresholds."""

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from slimscan_bench.intervals import predictive_value
from slimscan_bench.probability_figures import SWEPT, probability_figures, sweep
from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.errors import InputError
from slimscan_edge.operating_point import OperatingPoint

# Altman and Bland 1994, Diagnostic tests 2: predictive values, BMJ 309:102: a liver scan finds 231 of 258 and clears 54
# of 86; predictive values at the prevalence in the study, 0.75, and at 0.25.
LIVER = (231, 258, 54, 86)


def test_their_intervals_as_published():
    """A 70-gene signature of breast cancer (van de Vijver et al. 2002, doi 10.1056/NEJMoa021967), prevalence 0.07,
    as the documentation of CIfinder for R prints it (cran.r-project.org/package=CIfinder, `method = "zhou"`)."""
    signature = (31, 34, 32, 44, 0.07)
    assert predictive_value(True, *signature)[0] == pytest.approx(0.2010444, abs=5e-8)
    assert predictive_value(False, *signature)[0] == pytest.approx(0.9909508, abs=5e-8)
    assert predictive_value(True, *signature)[1] == pytest.approx((0.1331384, 0.2919216), abs=5e-8)
    assert predictive_value(False, *signature)[1] == pytest.approx((0.9734141, 0.9969560), abs=5e-8)
    never_wrong = (31, 34, 44, 44, 0.07)  # there: with a continuity correction, the adjusted logit interval
    assert predictive_value(True, *never_wrong)[1] == pytest.approx((0.2886800, 0.8676335), abs=5e-8)
    assert predictive_value(False, *never_wrong)[1] == pytest.approx((0.9772354, 0.9955563), abs=5e-8)


@pytest.mark.parametrize(("prevalence", "ppv", "npv"), [(258 / 344, 0.88, 0.67), (0.25, 0.45, 0.95)])
def test_predictive_values_as_published(prevalence, ppv, npv):
    assert predictive_value(True, *LIVER, prevalence)[0] == pytest.approx(ppv, abs=5.1e-3)
    assert predictive_value(False, *LIVER, prevalence)[0] == pytest.approx(npv, abs=5.1e-3)


@pytest.mark.parametrize("positive", [True, False])
def test_the_interval_is_that_of_the_delta_method(positive):
    """Slopes of the logit taken numerically, with the binomial variances of sensitivity and specificity."""
    found, positives, cleared, negatives = LIVER

    def logit(sensitivity, specificity, prevalence=0.25):
        right, wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
        if not positive:
            right, wrong = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
        return math.log(right / wrong)

    sensitivity, specificity, step = found / positives, cleared / negatives, 1e-6
    by_sensitivity = (logit(sensitivity + step, specificity) - logit(sensitivity - step, specificity)) / (2 * step)
    by_specificity = (logit(sensitivity, specificity + step) - logit(sensitivity, specificity - step)) / (2 * step)
    variance = by_sensitivity**2 * sensitivity * (1 - sensitivity) / positives
    variance += by_specificity**2 * specificity * (1 - specificity) / negatives
    reach = 1.959963984540054 * math.sqrt(variance)
    ends = [1 / (1 + math.exp(-(logit(sensitivity, specificity) + sign * reach))) for sign in (-1, 1)]
    assert predictive_value(positive, *LIVER, 0.25)[1] == pytest.approx(ends, rel=1e-6)


def test_the_interval_holds_what_it_promises():
    rng = np.random.default_rng(0)
    truth = 0.9 * 0.2 / (0.9 * 0.2 + 0.2 * 0.8)
    held = 0
    for _ in range(1000):
        found, cleared = int(rng.binomial(80, 0.9)), int(rng.binomial(60, 0.8))
        low, high = predictive_value(True, found, 80, cleared, 60, 0.2)[1]
        held += low <= truth <= high
    assert 930 <= held <= 975


def test_decisions_that_were_never_wrong_still_have_an_interval():
    value, (low, high) = predictive_value(True, 20, 20, 30, 30, 0.1)
    assert value == 1.0
    assert 0.3 < low < high < 1.0
    assert math.isnan(predictive_value(True, 0, 20, 30, 30, 0.1)[0])
    for refused in ((1, 0, 1, 2, 0.5), (1, 2, 1, 2, 1.0)):
        with pytest.raises(InputError):
            predictive_value(True, *refused)


def point(**changes):
    return OperatingPoint(
        **{"target_sensitivity": 0.9, "refer_low": 0.5, "refer_high": 0.5, "chosen_on": "", **changes}
    )


def pair(seed=0, count=200):
    rng = np.random.default_rng(seed)
    positive = np.arange(count) < count // 2
    names = tuple(f"{k}" for k in range(count))
    one, other = (
        Scores(images=names, patients=names, positive=positive, groups=("all",) * count, logits=logits)
        for logits in rng.normal(2.0 * positive - 1.0, 1.5, (2, count))
    )
    return PairedScores(reference=one, candidate=other, reference_threshold=0.0, candidate_threshold=0.0)


def test_brier_and_auroc_are_scikit_learns():
    scores, points = pair(), (point(temperature=2.0, bias=0.3), point())
    figures = {f.metric: f for f in probability_figures(scores, points, prevalence=None, seed=0, resamples=200)}
    assert list(figures) == ["brier", "calibration error"]
    truth, logits = scores.reference.positive, scores.reference.logits
    probabilities = np.array([points[0].probability(float(logit)) for logit in logits])
    brier = figures["brier"]
    assert brier.reference.value == pytest.approx(brier_score_loss(truth, probabilities))
    assert brier.reference.clustered.low < brier.reference.value < brier.reference.clustered.high
    assert brier.difference.value == pytest.approx(brier.candidate.value - brier.reference.value)
    assert scores.reference.auroc == pytest.approx(roc_auc_score(truth, probabilities))


def test_calibration_error_by_hand():
    # Ten bins of two images: all say 0.8, each bin has one of two positive, so that each is wrong by 0.3.
    count = 20
    names = tuple(f"{k}" for k in range(count))
    logits = np.full(count, math.log(4.0))
    one = Scores(images=names, patients=names, positive=np.arange(count) % 2 == 0, groups=names, logits=logits)
    both = PairedScores(reference=one, candidate=one, reference_threshold=0.0, candidate_threshold=0.0)
    error = probability_figures(both, (point(), point()), prevalence=None, seed=0, resamples=50)[1]
    assert error.reference.value == pytest.approx(0.3)
    assert error.reference.clustered is None
    assert error.difference.value == 0.0


def test_predictive_values_are_those_of_the_decisions():
    scores = pair()
    points = (point(), point())
    ppv, npv, *_ = probability_figures(scores, points, prevalence=0.1, seed=0, resamples=100)
    sensitivity, specificity = scores.reference.sensitivity(0.0), scores.reference.specificity(0.0)
    expected = sensitivity * 0.1 / (sensitivity * 0.1 + (1 - specificity) * 0.9)
    assert ppv.reference.value == pytest.approx(expected)
    assert ppv.reference.interval.low < expected < ppv.reference.interval.high
    assert npv.reference.value > 0.95
    assert ppv.difference.clustered is not None


def test_the_sweep_goes_by_each_models_own_probability():
    scores = pair()
    rows = sweep(scores, (point(), point(temperature=3.0)))
    assert tuple(row.threshold for row in rows) == SWEPT
    at = next(row for row in rows if row.threshold == 0.8)
    logit = math.log(4.0)
    assert at.reference == (scores.reference.sensitivity(logit), scores.reference.specificity(logit))
    assert at.candidate == (scores.candidate.sensitivity(3 * logit), scores.candidate.specificity(3 * logit))
    decided = [scores.reference.logits >= logit, scores.candidate.logits >= 3 * logit]
    assert at.flips == int((decided[0] != decided[1]).sum()) > 0
    assert sweep(scores.select(scores.reference.positive), (point(), point())) == ()
