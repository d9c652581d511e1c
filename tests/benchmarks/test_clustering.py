"""Images of one patient: what they are worth, and bounds that know it."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from slimscan_bench.bootstrap import clustered_interval
from slimscan_bench.clustering import clustered_loss, clustered_upper, design_effect, effective_number
from slimscan_bench.intervals import auroc, clopper_pearson_upper, delong_difference, tango_paired
from slimscan_edge.errors import InputError

# Weil 1970 (Food and Cosmetics Toxicology 8:177): of each litter the pups that lived 21 days, and all of them.
CONTROL = "13/13 12/12 9/9 9/9 8/8 8/8 12/13 11/12 9/10 9/10 8/9 11/13 4/5 5/7 7/10 7/10"
TREATED = "12/12 11/11 10/10 9/9 10/11 9/10 9/10 8/9 8/9 4/5 7/9 4/7 5/10 3/6 3/10 0/7"


def litters(counts: str) -> tuple[NDArray[np.bool_], list[str]]:
    pairs = [tuple(map(int, litter.split("/"))) for litter in counts.split()]
    lived = np.concatenate([np.arange(everyone) < living for living, everyone in pairs])
    return lived, [str(litter) for litter, (_, everyone) in enumerate(pairs) for _ in range(everyone)]


@pytest.mark.parametrize(("counts", "published"), [(CONTROL, 1.232495), (TREATED, 3.952861)])
def test_design_effects_as_published(counts, published):
    """Rao and Scott 1992, with n in the denominator where ours has n - 1."""
    lived, litter = litters(counts)
    assert design_effect(lived.astype(float), litter) * len(lived) / (len(lived) - 1) == pytest.approx(published)


@pytest.mark.parametrize("counts", [CONTROL, TREATED])
def test_the_variance_is_that_of_a_regression_with_clustered_errors(counts):
    """statsmodels' sandwich, of a constant alone: its correction is K/(K-1) (n-1)/(n-1)."""
    from statsmodels.api import OLS

    lived, litter = litters(counts)
    values, n = lived.astype(float), len(lived)
    fitted = OLS(values, np.ones(n)).fit(cov_type="cluster", cov_kwds={"groups": np.array(litter, int)})
    alone = values.var(ddof=1) / n
    assert design_effect(values, litter) * alone == pytest.approx(fitted.cov_params()[0, 0])


def alone(count: int) -> list[str]:
    return [str(one) for one in range(count)]


def shared(count: int, each: int) -> list[str]:
    """`count` patients with `each` images."""
    return [str(image // each) for image in range(count * each)]


@pytest.mark.parametrize(("events", "n"), [(0, 149), (1, 236), (7, 764), (5, 5)])
def test_a_bound_on_patients_with_one_image_each_is_exact(events, n):
    assert clustered_upper(np.arange(n) < events, alone(n)) == pytest.approx(clopper_pearson_upper(events, n))


def test_without_an_event_patients_count_and_not_images():
    assert clustered_upper(np.zeros(300, bool), shared(100, 3)) == pytest.approx(1 - 0.05 ** (1 / 100))


def test_events_that_come_by_patient_widen_the_bound_and_events_that_do_not_leave_it():
    together, apart = np.arange(600) < 6, np.arange(600) % 100 == 0
    images, patients = clopper_pearson_upper(6, 600), clopper_pearson_upper(1, 100)
    assert clustered_upper(apart, shared(300, 2)) == pytest.approx(images, rel=0.02)
    assert clustered_upper(together, shared(100, 6)) == pytest.approx(patients, rel=0.02)


def test_the_bound_holds_where_all_images_of_a_patient_are_alike():
    """At least 95 % of samples bound the truth from above; the bound of independent images does so far less often."""
    rng = np.random.default_rng(0)
    clusters, truth = shared(120, 4), 0.04
    samples = [np.repeat(rng.random(120) < truth, 4) for _ in range(400)]
    held = np.mean([clustered_upper(sample, clusters) >= truth for sample in samples])
    naive = np.mean([clopper_pearson_upper(int(sample.sum()), 480) >= truth for sample in samples])
    assert held >= 0.93  # two standard errors below 95 %
    assert naive < 0.90


def difference(lost: Sequence[int], n: int) -> NDArray[np.float64]:
    changes = np.zeros(n)
    changes[list(lost)] = -1
    return changes


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 0, 293), (3, 7, 465), (0, 2, 40)])
def test_a_loss_of_patients_with_one_image_each_is_tangos(gained, lost, n):
    changes = np.zeros(n)
    changes[:gained], changes[gained : gained + lost] = 1, -1
    assert clustered_loss(changes, alone(n)) == pytest.approx(-tango_paired(gained, lost, n, 0.9).low)


def test_without_a_change_the_bound_is_as_wide_as_patients_allow():
    assert clustered_loss(np.zeros(300), shared(100, 3)) == pytest.approx(tango_paired(0, 0, 100, 0.9).high)
    mended = -difference(range(30), 300)
    assert clustered_loss(mended, shared(100, 3)) == pytest.approx(tango_paired(0, 0, 100, 0.9).high)


def test_losses_of_one_patient_are_worth_one_loss():
    together = clustered_loss(difference(range(4), 400), shared(100, 4))
    assert together == pytest.approx(-tango_paired(0, 1, 100, 0.9).low, rel=0.02)
    assert 0 < clustered_loss(difference(range(0, 400, 100), 400), shared(100, 4)) < together


def test_a_clustered_auroc_difference_is_delongs_where_nobody_has_two_images():
    rng = np.random.default_rng(4)
    positive = np.arange(60) < 25
    reference, candidate = rng.normal(size=(2, 60)) + positive
    expected = delong_difference(positive, reference, candidate)
    assert delong_difference(positive, reference, candidate, patients=alone(60)) == pytest.approx(expected)


def test_copies_of_images_do_not_narrow_a_clustered_auroc_difference():
    rng = np.random.default_rng(5)
    positive = np.arange(60) < 25
    reference, candidate = rng.normal(size=(2, 60)) + positive
    once = delong_difference(positive, reference, candidate)
    copied = [np.repeat(values, 3) for values in (positive, reference, candidate)]
    clustered = delong_difference(*copied, patients=shared(60, 3))
    assert clustered == pytest.approx(once)
    naive = delong_difference(*copied)
    assert naive[1] - naive[0] < 0.7 * (clustered[1] - clustered[0])


def test_a_clustered_auroc_difference_is_as_wide_as_the_bootstrap_of_patients():
    rng = np.random.default_rng(6)
    positive, patients = np.arange(400) < 160, shared(100, 4)
    one = np.repeat(rng.normal(size=100), 4) + positive
    other = one + np.repeat(rng.normal(size=100) * 0.5, 4) + rng.normal(size=400) * 0.3
    low, high = delong_difference(positive, one, other, patients=patients)
    booted = clustered_interval(
        lambda drawn: auroc(positive[drawn], other[drawn]) - auroc(positive[drawn], one[drawn]), patients, seed=0
    )
    assert high - low == pytest.approx(booted.high - booted.low, rel=0.15)


def test_few_patients_leave_few_degrees_of_freedom():
    values = np.tile([1.0, 0.0, 0.0, 0.0], 10)
    few, many = (effective_number(values, shared(count, 40 // count)) for count in (4, 10))
    assert few < many <= 40
    assert effective_number(values, ["one"] * 40) == 1.0


@pytest.mark.parametrize(("values", "clusters"), [(np.zeros(0), []), (np.zeros(3), ["a", "b"])])
def test_refuses_what_is_no_sample(values, clusters):
    with pytest.raises(InputError, match="expected a cluster for each"):
        effective_number(values, clusters)


def test_one_patient_alone_has_no_auroc_to_bound():
    positive = np.array([True, True, False, False])
    with pytest.raises(InputError, match="1 positive and 2 negative patients"):
        delong_difference(positive, np.arange(4.0), np.arange(4.0), patients=["a", "a", "b", "c"])
