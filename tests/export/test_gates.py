"""The gates are pure: scores in, verdicts out. Every gate is shown to pass, to fail and, on rates, not to know."""

import dataclasses
from math import comb

import numpy as np
import pytest
from numpy.typing import NDArray

from slimscan_bench.intervals import clopper_pearson_upper
from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.bundle import GateResult
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_export.gates import EXIT_CODES, Candidate, GatePolicy, evaluate_gates, overall

SPEC = PreprocessSpec(height=32, width=32)
GATES = {
    "float model reproduces its validation",
    "float model's operating point",
    "same preprocessing",
    "new misses",
    "new false alarms",
    "sensitivity loss",
    "specificity loss",
    "AUROC loss",
    "model size",
}


def scores(positive: NDArray[np.bool_], logits: NDArray[np.float64]) -> Scores:
    names = tuple(f"{index}.png" for index in range(len(positive)))
    return Scores(images=names, patients=names, positive=positive, groups=("all",) * len(names), logits=logits)


def truth(positives: int, negatives: int) -> NDArray[np.bool_]:
    return np.arange(positives + negatives) < positives


def right(positives: int, negatives: int) -> NDArray[np.float64]:
    """Logits of a model without a mistake at the threshold 0, no two the same."""
    return np.concatenate([np.linspace(2.0, 3.0, positives), np.linspace(-3.0, -2.0, negatives)])


def candidate(
    positives: int = 300,
    negatives: int = 300,
    *,
    misses: int = 0,
    alarms: int = 0,
    logits: NDArray[np.float64] | None = None,
) -> Candidate:
    """A candidate that answers as the float model does, but for planted new misses and new false alarms."""
    positive, reference = truth(positives, negatives), right(positives, negatives)
    answered = reference.copy() if logits is None else logits
    answered[:misses] = -0.01
    answered[positives : positives + alarms] = 0.01
    return Candidate(
        pair=PairedScores(
            reference=scores(positive, reference),
            candidate=scores(positive, answered),
            reference_threshold=0.0,
            candidate_threshold=0.0,
        ),
        validated=scores(positive, reference),
        chosen_on=np.ones(positives + negatives, np.bool_),
        target_sensitivity=0.98,
        reference_preprocess=SPEC,
        candidate_preprocess=SPEC,
        model_bytes=300_000,
    )


def verdicts(judged: Candidate, policy: GatePolicy | None = None) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in evaluate_gates(judged, policy or GatePolicy())}


def exit_code(judged: Candidate) -> int:
    return EXIT_CODES[overall(evaluate_gates(judged, GatePolicy()))]


def test_a_model_that_answers_as_the_float_one_passes_every_gate():
    assert verdicts(candidate()) == dict.fromkeys(GATES, "PASS")
    assert exit_code(candidate()) == 0


def test_bounds_are_those_of_clopper_and_pearson():
    """With no event `1 - 0.05**(1/n)`; with k the p at which k or fewer have a chance of 5 %."""
    assert clopper_pearson_upper(0, 149) == pytest.approx(0.0199048, abs=1e-7)  # 1 - exp(ln(0.05) / 149)
    assert clopper_pearson_upper(0, 148) == pytest.approx(0.0200380, abs=1e-7)
    for k, n in ((1, 236), (2, 313), (5, 400)):
        p = clopper_pearson_upper(k, n)
        tail = sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
        assert tail == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize(
    ("positives", "misses", "verdict"),
    [
        (149, 0, "PASS"),  # bound 1.9905 %
        (148, 0, "INCONCLUSIVE"),  # bound 2.0038 %
        (236, 1, "PASS"),
        (235, 1, "INCONCLUSIVE"),
        (313, 2, "PASS"),
        (313, 3, "INCONCLUSIVE"),
        (300, 6, "INCONCLUSIVE"),  # exactly the margin: allowed, but not proven
        (300, 7, "FAIL"),
    ],
)
def test_new_misses_at_the_edge(positives, misses, verdict):
    assert verdicts(candidate(positives, misses=misses))["new misses"] == verdict


@pytest.mark.parametrize(
    ("negatives", "alarms", "verdict"),
    [(59, 0, "PASS"), (58, 0, "INCONCLUSIVE"), (93, 1, "PASS"), (92, 1, "INCONCLUSIVE"), (100, 6, "FAIL")],
)
def test_new_false_alarms_at_the_edge(negatives, alarms, verdict):
    assert verdicts(candidate(300, negatives, alarms=alarms))["new false alarms"] == verdict


def test_a_mended_miss_does_not_pay_for_a_new_one():
    """Sensitivity is unchanged, and ten patients who were found no longer are."""
    judged = candidate()
    reference = judged.pair.reference.logits.copy()
    reference[10:20] = -0.01
    answered = judged.pair.candidate.logits.copy()
    answered[:10] = -0.01
    positive = judged.pair.reference.positive
    pair = dataclasses.replace(judged.pair, reference=scores(positive, reference), candidate=scores(positive, answered))
    found = verdicts(dataclasses.replace(judged, pair=pair, validated=pair.reference, target_sensitivity=0.9))
    assert pair.sensitivity_difference == 0
    assert found["new misses"] == "FAIL"


@pytest.mark.parametrize(("misses", "verdict"), [(0, "PASS"), (5, "INCONCLUSIVE"), (7, "FAIL")])
def test_sensitivity_loss(misses, verdict):
    assert verdicts(candidate(misses=misses))["sensitivity loss"] == verdict


@pytest.mark.parametrize(("alarms", "verdict"), [(0, "PASS"), (14, "INCONCLUSIVE"), (16, "FAIL")])
def test_specificity_loss(alarms, verdict):
    assert verdicts(candidate(alarms=alarms))["specificity loss"] == verdict


@pytest.mark.parametrize(("swapped", "verdict"), [(0, "PASS"), (2, "INCONCLUSIVE"), (6, "FAIL")])
def test_auroc_loss(swapped, verdict):
    """Positives that fall below every negative each cost 1/300 of the area."""
    logits = right(300, 300)
    logits[:swapped] = -9.0 - np.arange(swapped)
    assert verdicts(candidate(logits=logits))["AUROC loss"] == verdict


@pytest.mark.parametrize(("size_bytes", "verdict"), [(400_000, "PASS"), (400_001, "FAIL")])
def test_model_size(size_bytes, verdict):
    assert verdicts(dataclasses.replace(candidate(), model_bytes=size_bytes))["model size"] == verdict


def test_fifty_images_without_a_miss_are_inconclusive_and_end_with_3():
    judged = candidate(25, 25)
    found = verdicts(judged)
    assert found["new misses"] == found["new false alarms"] == "INCONCLUSIVE"
    assert "FAIL" not in found.values()
    assert exit_code(judged) == 3


def test_unrelated_logits_fail():
    """As weights that were shuffled give: as good as a draw."""
    judged = candidate(logits=np.random.default_rng(0).normal(size=600))
    found = verdicts(judged)
    assert found["new misses"] == found["AUROC loss"] == "FAIL"
    assert exit_code(judged) == 1


def test_a_float_model_that_answers_otherwise_than_when_it_was_validated_fails():
    judged = candidate()
    logits = judged.validated.logits + np.where(np.arange(600) == 17, 0.06, 0.0)
    moved = dataclasses.replace(judged, validated=scores(judged.validated.positive, logits))
    assert verdicts(moved)["float model reproduces its validation"] == "FAIL"
    wider = GatePolicy(reproduction_logits=0.1)
    assert verdicts(moved, wider)["float model reproduces its validation"] == "PASS"


def test_labels_that_are_not_those_of_the_validation_fail():
    judged = candidate()
    relabelled = scores(~judged.validated.positive, judged.validated.logits)
    assert (
        verdicts(dataclasses.replace(judged, validated=relabelled))["float model reproduces its validation"] == "FAIL"
    )


def test_labels_swapped_everywhere_fail_although_both_models_agree():
    """Float and int8 are then wrong alike: only the operating point, chosen before the swap, tells."""
    judged = candidate()
    swapped = scores(~judged.validated.positive, judged.validated.logits)
    pair = dataclasses.replace(judged.pair, reference=swapped, candidate=swapped)
    found = verdicts(dataclasses.replace(judged, pair=pair, validated=swapped))
    assert found["float model's operating point"] == "FAIL"
    assert {name for name, verdict in found.items() if verdict != "PASS"} == {"float model's operating point"}


def test_the_operating_point_is_held_to_the_images_that_it_was_chosen_on():
    """Misses on other images (a shifted series, say) are reported elsewhere and are no sign of a wrong file."""
    judged = candidate()
    logits = judged.validated.logits.copy()
    logits[:30] = -1.0
    chosen_on = np.arange(600) >= 30
    pair = dataclasses.replace(
        judged.pair, reference=scores(judged.validated.positive, logits), candidate=judged.pair.candidate
    )
    elsewhere = dataclasses.replace(judged, pair=pair, validated=pair.reference, chosen_on=chosen_on)
    assert verdicts(elsewhere)["float model's operating point"] == "PASS"
    here = dataclasses.replace(elsewhere, chosen_on=~chosen_on | judged.validated.positive)
    assert verdicts(here)["float model's operating point"] == "FAIL"


def test_another_resize_filter_fails():
    other = dataclasses.replace(SPEC, resize_filter="box")
    judged = dataclasses.replace(candidate(), candidate_preprocess=other)
    assert verdicts(judged)["same preprocessing"] == "FAIL"
    assert exit_code(judged) == 1


def test_overall_is_the_worst():
    passed = GateResult(name="", verdict="PASS", measured="", allowed="")
    unsure, failed = (dataclasses.replace(passed, verdict=verdict) for verdict in ("INCONCLUSIVE", "FAIL"))
    assert overall((passed, passed)) == "PASS"
    assert overall((passed, unsure)) == "INCONCLUSIVE"
    assert overall((failed, unsure, passed)) == "FAIL"
    assert overall(()) == "INCONCLUSIVE"


@pytest.mark.parametrize("wrong", [{"new_miss_margin": 0.0}, {"auroc_margin": 0.5}, {"size_bytes": 0}])
def test_a_policy_that_allows_nothing_or_anything_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GatePolicy(**wrong)
