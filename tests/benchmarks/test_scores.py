import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimscan_bench.intervals import auroc
from slimscan_bench.scores import Confusion, PairedScores, Scores
from slimscan_edge.errors import InputError


def scores(logits, positive=(True, True, True, False, False, False), patients="aabcdd", groups="xxyxyy"):
    return Scores(
        images=tuple(f"image{i}.jpeg" for i in range(len(logits))),
        patients=tuple(patients),
        positive=np.array(positive, dtype=np.bool_),
        groups=tuple(groups),
        logits=np.array(logits, dtype=np.float64),
    )


REFERENCE = scores([2.0, 1.0, -1.0, -2.0, -1.0, 1.0])
CANDIDATE = scores([2.0, -0.5, 0.5, -2.0, 0.0, 1.5])


def paired(reference=REFERENCE, candidate=CANDIDATE, reference_threshold=0.0, candidate_threshold=0.0):
    return PairedScores(
        reference=reference,
        candidate=candidate,
        reference_threshold=reference_threshold,
        candidate_threshold=candidate_threshold,
    )


def test_statistics_of_one_model():
    assert REFERENCE.confusion(0.0) == Confusion(2, 1, 2, 1)
    assert REFERENCE.sensitivity(0.0) == pytest.approx(2 / 3)
    assert REFERENCE.specificity(0.0) == pytest.approx(2 / 3)
    # Pairs of a positive and a negative, ties half: 3 + 2.5 + 1.5 of 9.
    assert REFERENCE.auroc == pytest.approx(7 / 9)
    assert (REFERENCE.positives, REFERENCE.negatives, len(REFERENCE)) == (3, 3, 6)


def test_a_logit_at_the_threshold_is_positive():
    assert REFERENCE.sensitivity(2.0) == pytest.approx(1 / 3)
    assert REFERENCE.specificity(1.0) == pytest.approx(2 / 3)


def test_new_errors_and_flips_are_named():
    pair = paired()
    assert pair.new_misses == ("image1.jpeg",)
    assert pair.new_false_alarms == ("image4.jpeg",)
    assert pair.positive_patients == ("a", "b")
    assert [(f.image, f.positive, f.reference_positive) for f in pair.flips] == [
        ("image1.jpeg", True, True),
        ("image2.jpeg", True, False),
        ("image4.jpeg", False, False),
    ]
    assert tuple(pair.positives_table) == (1, 1, 1, 0)
    assert tuple(pair.negatives_table) == (1, 1, 0, 1)


def test_differences_are_candidate_less_reference():
    pair = paired()
    assert pair.sensitivity_difference == 0.0
    assert pair.specificity_difference == pytest.approx(-1 / 3)
    assert pair.auroc_difference == pytest.approx(CANDIDATE.auroc - REFERENCE.auroc)
    low, high = pair.specificity_difference_interval()
    assert low < -1 / 3 < high
    assert pair.specificity_p_value == 1.0


def test_each_model_is_judged_at_its_own_threshold():
    shifted = dataclasses.replace(REFERENCE, logits=REFERENCE.logits + 5.0)
    pair = paired(candidate=shifted, candidate_threshold=5.0)
    assert not pair.flips
    assert pair.auroc_difference == 0.0
    assert paired(candidate=shifted).new_false_alarms == ("image3.jpeg", "image4.jpeg")


def test_groups_are_compared_apart():
    groups = paired().by_group()
    assert list(groups) == ["x", "y"]
    assert groups["x"].new_misses == ("image1.jpeg",)
    assert groups["y"].new_misses == ()
    assert [len(group) for group in groups.values()] == [3, 3]
    assert [len(group) for group in REFERENCE.by_group().values()] == [3, 3]


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=30))
def test_errors_of_the_pair_add_up(rows):
    positive = [row[0] for row in rows]
    names = "p" * len(rows)
    pair = paired(
        scores([row[1] for row in rows], positive, names, names),
        scores([row[2] for row in rows], positive, names, names),
    )
    before, after = pair.reference.confusion(0.0), pair.candidate.confusion(0.0)
    resolved = pair.positives_table.candidate_only
    assert after.false_negatives == before.false_negatives + len(pair.new_misses) - resolved
    spared = pair.negatives_table.candidate_only
    assert after.false_positives == before.false_positives + len(pair.new_false_alarms) - spared
    assert len(pair.flips) == len(pair.new_misses) + len(pair.new_false_alarms) + resolved + spared


def test_clustered_intervals_draw_patients():
    generator = np.random.default_rng(5)
    positive = np.arange(60) % 2 == 0
    names = [str(i // 3) for i in range(60)]
    one = scores(generator.normal(size=60) + positive, positive, names, names)
    low, high = one.clustered_interval(auroc, seed=1, resamples=300)
    assert low < one.auroc < high
    other = dataclasses.replace(one, logits=one.logits * 2)

    def difference(truth, reference, candidate):
        return auroc(truth, candidate) - auroc(truth, reference)

    assert paired(one, other).clustered_interval(difference, seed=1, resamples=50) == (0.0, 0.0)


def test_statistics_of_an_absent_class_are_refused():
    only_sick = REFERENCE.select(REFERENCE.positive)
    assert only_sick.sensitivity(0.0) == pytest.approx(2 / 3)
    for refused in (
        lambda: only_sick.auroc,
        lambda: only_sick.auroc_interval(),
        lambda: only_sick.specificity(0.0),
        lambda: only_sick.specificity_interval(0.0),
        lambda: paired(only_sick, only_sick).specificity_difference,
        lambda: paired(only_sick, only_sick).auroc_difference_interval(),
        lambda: only_sick.clustered_interval(auroc, seed=0, resamples=20),
    ):
        with pytest.raises(InputError):
            refused()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": (), "patients": (), "groups": (), "positive": np.zeros(0, bool), "logits": np.zeros(0)},
            "at least one",
        ),
        ({"patients": ("a",)}, "1 patients"),
        ({"images": ("same.jpeg",) * 6}, "scored twice"),
        ({"logits": np.array([0, 1, 2, 3, 4, np.nan])}, "image5.jpeg"),
        ({"logits": np.arange(6)}, "expected bool and float64"),
        ({"positive": np.zeros(6, dtype=np.int64)}, "expected bool and float64"),
    ],
)
def test_refuses_scores_that_are_not_one_an_image(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(REFERENCE, **change)


def test_refuses_pairs_that_are_not_pairs():
    backwards = tuple(reversed(CANDIDATE.images))
    others = ("other.jpeg", *CANDIDATE.images[1:])
    for candidate, message in (
        (dataclasses.replace(CANDIDATE, images=backwards), "different orders"),
        (dataclasses.replace(CANDIDATE, images=others), "other.jpeg|image0.jpeg"),
        (CANDIDATE.select(CANDIDATE.positive), "6 and 3"),
        (dataclasses.replace(CANDIDATE, positive=~CANDIDATE.positive), "different labels"),
        (dataclasses.replace(CANDIDATE, patients=tuple("zzzzzz")), "different labels, patients"),
    ):
        with pytest.raises(InputError, match=message):
            paired(candidate=candidate)
    with pytest.raises(InputError, match="finite logits"):
        paired(candidate_threshold=float("nan"))
