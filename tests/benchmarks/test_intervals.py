import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from slimscan_bench.bootstrap import clustered_interval, clustered_replicates, percentile_interval
from slimscan_bench.intervals import (
    PairedTable,
    auroc,
    clopper_pearson,
    clopper_pearson_upper,
    delong,
    delong_difference,
    delong_interval,
    delong_test,
    mcnemar_exact,
    newcombe_paired,
    tango_paired,
    wilson,
)
from slimscan_edge.errors import InputError

# Newcombe 1998, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17:857, table I.
SINGLE_PROPORTIONS = [
    (81, 263, (0.2527, 0.3676), (0.2553, 0.3662)),
    (15, 148, (0.0578, 0.1617), (0.0624, 0.1605)),
    (0, 20, (0.0000, 0.1684), (0.0000, 0.1611)),
    (1, 29, (0.0009, 0.1776), (0.0061, 0.1718)),
]
# Complete response before and after consolidation therapy (Cavo et al. 2012), as analysed in Fagerland, Lydersen
# and Laake 2017, Statistical Analysis of Contingency Tables, chapter 8; first right, second wrong: 6.
CAVO = PairedTable(both=59, reference_only=6, candidate_only=16, neither=80)


@pytest.mark.parametrize(("k", "n", "exact", "score"), SINGLE_PROPORTIONS)
def test_single_proportions_as_published(k, n, exact, score):
    assert clopper_pearson(k, n) == pytest.approx(exact, abs=5e-5)
    assert wilson(k, n) == pytest.approx(score, abs=5e-5)


def test_the_one_sided_bound_without_a_success_has_a_closed_form():
    # (1 - p)^n = 0.05, the exact form of the "rule of three" (Hanley and Lippman-Hand 1983, JAMA 249:1743).
    assert clopper_pearson_upper(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert clopper_pearson_upper(7, 7) == 1.0


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_one_sided_bound_is_the_end_of_a_wider_two_sided_interval(counts):
    k, n = counts
    _, high = clopper_pearson(k, n, confidence=0.90)
    assert clopper_pearson_upper(k, n, 0.95) == pytest.approx(high, abs=1e-9)


def test_one_sided_upper_bound_leaves_the_stated_tail():
    # By definition: at the bound, k or fewer successes have probability 1 - confidence. Summed by hand.
    k, n, p = 2, 50, clopper_pearson_upper(2, 50, 0.95)
    assert sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)) == pytest.approx(0.05)


def test_newcombe_paired_as_published():
    # Newcombe 1998, Improved confidence intervals for the difference between binomial proportions based on paired
    # data, Statistics in Medicine 17:2635, method 10 on 36, 12, 2, 0 (first less second).
    first_less_second = PairedTable(both=36, reference_only=2, candidate_only=12, neither=0)
    assert newcombe_paired(first_less_second) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    # Fagerland et al. 2017 give second less first; ours is candidate less reference, the mirror image.
    assert CAVO.difference == pytest.approx(0.0621, abs=5e-5)
    assert newcombe_paired(CAVO) == pytest.approx((0.0046, 0.1186), abs=5e-5)
    # Airway hyper-responsiveness (Bentur et al. 2009) in Fagerland, Lydersen and Laake 2014, Statistics in
    # Medicine 33:2850.
    bentur = PairedTable(both=1, reference_only=1, candidate_only=7, neither=12)
    assert newcombe_paired(bentur) == pytest.approx((0.026, 0.507), abs=5e-4)


@given(st.tuples(*[st.integers(0, 60)] * 4).filter(sum))
def test_newcombe_contains_the_difference_and_mirrors_with_the_raters(counts):
    table = PairedTable(*counts)
    low, high = newcombe_paired(table)
    assert -1 <= low <= table.difference + 1e-12
    assert table.difference - 1e-12 <= high <= 1
    swapped = PairedTable(table.both, table.candidate_only, table.reference_only, table.neither)
    assert newcombe_paired(swapped) == pytest.approx((-high, -low), abs=1e-12)


@pytest.mark.parametrize(
    ("gained", "lost", "n", "confidence", "published"),
    [
        (9, 3, 32, 0.95, (-0.027, 0.390)),  # Tango 1998, Statistics in Medicine 17:891, on 4, 9, 3, 16
        (0, 1, 44, 0.90, (-0.096, 0.037)),  # the same, soft contact lens disinfection: 43, 0, 1, 0
        (16, 8, 86, 0.95, (-0.020, 0.207)),  # Agresti and Min 2005, Statistics in Medicine 24:729, on 53, 16, 8, 9
        (1, 7, 21, 0.95, (-0.517, -0.026)),  # Fagerland et al. 2014, Statistics in Medicine 33:2850, on 1, 1, 7, 12
    ],
)
def test_tango_as_published(gained, lost, n, confidence, published):
    assert tango_paired(gained, lost, n, confidence) == pytest.approx(published, abs=5.1e-4)


@pytest.mark.parametrize("n", [10, 293, 12.5])
def test_tango_without_a_change_has_a_closed_form(n):
    """Both agree everywhere: the variance at a difference d is then n d (1 - d), by Tango's equation 9."""
    z = 1.6448536269514722
    low, high = tango_paired(0, 0, n, 0.90)
    assert (-low, high) == pytest.approx((z**2 / (n + z**2),) * 2)


@given(st.tuples(*[st.integers(0, 60)] * 3).filter(sum))
def test_tango_contains_the_difference_and_mirrors_with_the_raters(counts):
    gained, lost, _ = counts
    n = sum(counts)
    low, high = tango_paired(gained, lost, n)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    assert tango_paired(lost, gained, n) == pytest.approx((-high, -low), abs=1e-9)


def test_mcnemar_exact_as_published_and_by_exact_fractions():
    # Fagerland et al. 2017, chapter 8: McNemar exact conditional test of the Cavo data, P = 0.0525.
    assert mcnemar_exact(CAVO) == pytest.approx(0.052479, abs=5e-7)
    by_hand = 2 * sum(Fraction(math.comb(22, i), 2**22) for i in range(7))
    assert mcnemar_exact(CAVO) == pytest.approx(float(by_hand))
    # Two media for tubercle bacilli, Armitage and Berry 1994, Statistical Methods in Medical Research, p. 127; exact by
    # Liddell 1983: P = 0.0129.
    assert mcnemar_exact(PairedTable(both=20, reference_only=12, candidate_only=2, neither=16)) == pytest.approx(
        0.0129, abs=5e-5
    )
    assert mcnemar_exact(PairedTable(90, 0, 0, 10)) == 1.0
    assert mcnemar_exact(PairedTable(90, 5, 0, 5)) == pytest.approx(2 / 2**5)


def test_delong_on_a_table_computed_by_hand():
    """Three positives against four negatives, two models, with ties; all by exact fractions, no published source.

    Model 1: positives 3, 5, 8; negatives 1, 2, 3, 6. Model 2: positives 4, 4, 9; negatives 1, 4, 5, 5.
    """
    positive = np.array([True] * 3 + [False] * 4)
    scores = np.array([[3, 5, 8, 1, 2, 3, 6], [4, 4, 9, 1, 4, 5, 5]], dtype=np.float64)
    found = [
        [Fraction(5, 8), Fraction(3, 4), Fraction(1)],
        [Fraction(3, 8), Fraction(3, 8), Fraction(1)],
    ]
    cleared = [
        [Fraction(1), Fraction(1), Fraction(5, 6), Fraction(1, 3)],
        [Fraction(1), Fraction(2, 3), Fraction(1, 3), Fraction(1, 3)],
    ]

    def covariance(x, y):
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / (len(x) - 1)

    expected = [
        [covariance(found[i], found[j]) / 3 + covariance(cleared[i], cleared[j]) / 4 for j in (0, 1)] for i in (0, 1)
    ]
    result = delong(positive, scores)
    assert result.auroc == pytest.approx([19 / 24, 7 / 12])
    assert result.covariance == pytest.approx(np.array(expected, dtype=np.float64))

    deviation = math.sqrt(float(expected[0][0] + expected[1][1] - 2 * expected[0][1]))
    difference = 7 / 12 - 19 / 24
    reach = 1.959963984540054 * deviation
    assert delong_difference(positive, *scores) == pytest.approx((difference - reach, difference + reach))
    assert delong_test(positive, *scores) == pytest.approx(math.erfc(abs(difference) / deviation / math.sqrt(2)))


# DeLong, DeLong and Clarke-Pearson 1988: albumin, total protein and K-G score of 43 of their 49 patients (those with
# all three), and whether surgery helped.
DELONG = """
3.0 5.8 10 0   3.2 6.3  5 1   3.9 6.8  3 1   2.8 4.8  6 0   3.2 5.8  3 1   0.9 4.0  5 0   2.5 5.7  8 0   1.6 5.6  5 1
3.8 5.7  5 1   3.7 6.7  6 1   3.2 5.4  4 1   3.8 6.6  6 1   4.1 6.6  5 1   3.6 5.7  5 1   4.3 7.0  4 1   3.6 6.7  4 0
2.3 4.4  6 1   4.2 7.6  4 0   4.0 6.6  6 0   3.5 5.8  6 1   3.8 6.8  7 1   3.0 4.7  8 0   4.5 7.4  5 1   3.7 7.4  5 1
3.1 6.6  6 1   4.1 8.2  6 1   4.3 7.0  5 1   4.3 6.5  4 1   3.2 5.1  5 1   2.6 4.7  6 1   3.3 6.8  6 0   1.7 4.0  7 0
3.7 6.1  5 1   3.3 6.3  7 1   4.2 7.7  6 1   3.5 6.2  5 1   2.9 5.7  9 0   2.1 4.8  7 1   2.8 6.2  8 0   4.0 7.0  7 1
3.3 5.7  6 1   3.7 6.9  5 1   3.6 6.6  5 1
"""


def test_delong_on_their_own_patients():
    """Areas, standard errors, differences to the K-G score and p-values as SAS gives them.

    SAS/STAT 13.1 User's Guide, PROC LOGISTIC, example 8, whose event is that surgery did not help.
    """
    table = np.array(DELONG.split(), np.float64).reshape(-1, 4)
    positive, albumin, protein, score = table[:, 3] == 0, -table[:, 0], -table[:, 1], table[:, 2]
    result = delong(positive, np.stack([albumin, score, protein]))
    assert result.auroc == pytest.approx([0.7366, 0.7258, 0.6478], abs=5e-5)
    assert np.sqrt(np.diag(result.covariance)) == pytest.approx([0.0927, 0.1028, 0.1000], abs=5e-5)
    assert delong_difference(positive, score, albumin) == pytest.approx((-0.1761, 0.1976), abs=5e-5)
    assert delong_difference(positive, score, protein) == pytest.approx((-0.2830, 0.1271), abs=5e-5)
    assert delong_test(positive, score, albumin) == pytest.approx(0.9102, abs=5e-5)
    assert delong_test(positive, score, protein) == pytest.approx(0.4561, abs=5e-5)


labelled_scores = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.bool_, n).filter(lambda a: 2 <= a.sum() <= len(a) - 2),
        hnp.arrays(np.float64, n, elements=st.integers(-4, 4).map(float)),
    )
)


@settings(max_examples=50)
@given(labelled_scores)
def test_auroc_is_scikit_learns_and_its_interval_contains_it(labelled):
    positive, scores = labelled
    area = auroc(positive, scores)
    assert area == pytest.approx(roc_auc_score(positive, scores))
    assert delong(positive, scores[np.newaxis]).auroc[0] == pytest.approx(area)
    low, high = delong_interval(positive, scores)
    assert 0 <= low <= area + 1e-9
    assert area - 1e-9 <= high <= 1


def test_delong_variance_is_that_of_repeated_samples():
    generator = np.random.default_rng(7)
    positive = np.arange(200) < 120
    draws = generator.normal(loc=positive * 1.2, size=(2000, 200))
    estimates = [delong(positive, draw[np.newaxis]) for draw in draws]
    variance_of_areas = np.var([e.auroc[0] for e in estimates])
    assert np.mean([e.covariance[0, 0] for e in estimates]) == pytest.approx(variance_of_areas, rel=0.1)


def test_perfect_separation_is_not_certainty():
    positive = np.array([True] * 30 + [False] * 20)
    scores = positive.astype(np.float64)
    low, high = delong_interval(positive, scores)
    assert low == pytest.approx(0.025 ** (1 / 20))  # twenty disjoint pairs, all ordered rightly
    assert high == 1.0


def test_models_that_order_alike_differ_by_nothing():
    positive = np.arange(50) < 25
    scores = np.random.default_rng(1).normal(size=50) + positive
    assert delong_difference(positive, scores, np.exp(scores)) == (0.0, 0.0)
    assert delong_test(positive, scores, np.exp(scores)) == 1.0


def test_bootstrap_is_seeded_and_draws_whole_clusters():
    clusters = ["a", "a", "b", "c", "c", "c"]
    seen = []
    clustered_replicates(lambda drawn: float(len(seen.append(drawn) or drawn)), clusters, seed=3, resamples=50)
    for drawn in seen:
        counts = np.bincount(drawn, minlength=6)
        assert counts[0] == counts[1]
        assert counts[3] == counts[4] == counts[5]
        assert counts[0] + counts[2] + counts[3] == 3
    values = np.array([0.0, 1.0, 5.0, 2.0, 2.0, 9.0])
    first, again, other = (
        clustered_replicates(lambda drawn: values[drawn].mean(), clusters, seed=seed, resamples=200)
        for seed in (3, 3, 4)
    )
    assert (first == again).all()
    assert (first != other).any()
    assert percentile_interval(first).low <= values.mean() <= percentile_interval(first).high


def test_clusters_of_copies_carry_no_more_evidence_than_one_of_each():
    values = np.random.default_rng(0).normal(size=80)
    alone = clustered_interval(lambda d: values[d].mean(), [str(i) for i in range(80)], seed=1)
    copies = np.repeat(values, 10)
    grouped = clustered_interval(lambda d: copies[d].mean(), [str(i // 10) for i in range(800)], seed=1)
    assert grouped == pytest.approx(alone)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: clopper_pearson(0, 0),
        lambda: clopper_pearson_upper(3, 2),
        lambda: wilson(-1, 5),
        lambda: clopper_pearson(1, 5, confidence=95),
        lambda: newcombe_paired(PairedTable(0, 0, 0, 0)),
        lambda: mcnemar_exact(PairedTable(3, -1, 0, 0)),
        lambda: tango_paired(3, 3, 5),
        lambda: tango_paired(-1, 0, 5),
        lambda: tango_paired(0, 0, 0),
        lambda: auroc(np.array([True, True]), np.array([0.0, 1.0])),
        lambda: delong(np.array([True, False, False]), np.zeros((1, 3))),
        lambda: delong_interval(np.array([True, True, False, False]), np.array([1.0, 3.0, 2.0, 0.0]), confidence=1.0),
        lambda: clustered_interval(lambda d: 0.0, ["one", "one"], seed=0),
        lambda: percentile_interval(np.array([math.nan, 1.0, 2.0])),
        lambda: percentile_interval(np.array([])),
    ],
)
def test_refuses_what_is_no_sample(refused):
    with pytest.raises(InputError):
        refused()
