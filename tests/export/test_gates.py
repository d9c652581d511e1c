"""The gates are pure: scores in, verdicts out. Every gate is shown to pass, to fail and, on rates, not to know."""

import dataclasses
from collections.abc import Sequence
from math import comb

import numpy as np
import pytest
from numpy.typing import NDArray

from slimscan_bench.clustering import clustered_upper
from slimscan_bench.intervals import clopper_pearson_upper
from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.bundle import GateResult
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_export.gates import EXIT_CODES, Candidate, Shifted, Subgroup, evaluate_gates, in_short, overall
from slimscan_export.paired_gates import Gate, Shortfall, lost_gate, shortfall
from slimscan_export.policy import GatePolicy, strict_policy

SPEC = PreprocessSpec(height=32, width=32)
STRICT = strict_policy()
GATES = {
    "float model reproduces its validation",
    "float model's operating point",
    "same preprocessing",
    "new misses",
    "new false alarms",
    "error ratio",
    "sensitivity loss",
    "specificity loss",
    "AUROC loss",
    "model size",
}


def scores(positive: NDArray[np.bool_], logits: NDArray[np.float64], patients: Sequence[str] = ()) -> Scores:
    names = tuple(f"{index}.png" for index in range(len(positive)))
    return Scores(
        images=names,
        patients=tuple(patients) or names,
        positive=positive,
        groups=("all",) * len(names),
        logits=logits,
    )


def truth(positives: int, negatives: int) -> NDArray[np.bool_]:
    return np.arange(positives + negatives) < positives


def right(positives: int, negatives: int) -> NDArray[np.float64]:
    """Logits of a model without a mistake at the threshold 0, no two the same."""
    return np.concatenate([np.linspace(2.0, 3.0, positives), np.linspace(-3.0, -2.0, negatives)])


def paired(
    positives: int = 300,
    negatives: int = 300,
    *,
    missed_by_both: int = 0,
    misses: int = 0,
    alarms: int = 0,
    logits: NDArray[np.float64] | None = None,
    patients: Sequence[str] = (),
) -> PairedScores:
    """Two models that answer alike, but for planted new misses (the first positives) and new false alarms.

    What both miss are the last positives.
    """
    positive, reference = truth(positives, negatives), right(positives, negatives)
    reference[positives - missed_by_both : positives] = -0.01
    answered = reference.copy() if logits is None else logits
    answered[:misses] = -0.01
    answered[positives : positives + alarms] = 0.01
    return PairedScores(
        reference=scores(positive, reference, patients),
        candidate=scores(positive, answered, patients),
        reference_threshold=0.0,
        candidate_threshold=0.0,
    )


def candidate(*counts: int, target_sensitivity: float = 0.98, **planted) -> Candidate:
    pair = paired(*counts, **planted)
    return Candidate(
        pair=pair,
        validated=pair.reference,
        chosen_on=np.ones(len(pair), np.bool_),
        target_sensitivity=target_sensitivity,
        reference_preprocess=SPEC,
        candidate_preprocess=SPEC,
        model_bytes=300_000,
    )


def gates(judged: Candidate, policy: GatePolicy = STRICT) -> dict[str, Gate]:
    return {gate.name: gate for gate in evaluate_gates(judged, policy)}


def verdicts(judged: Candidate, policy: GatePolicy = STRICT) -> dict[str, str]:
    return {name: gate.verdict for name, gate in gates(judged, policy).items()}


def not_passed(judged: Candidate) -> dict[str, str]:
    return {name: verdict for name, verdict in verdicts(judged).items() if verdict != "PASS"}


def exit_code(judged: Candidate) -> int:
    return EXIT_CODES[overall(evaluate_gates(judged, STRICT))]


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
        (300, 3, "INCONCLUSIVE"),  # exactly what may be seen, but not proven
        (300, 4, "FAIL"),
    ],
)
def test_new_misses_at_the_edge(positives, misses, verdict):
    assert verdicts(candidate(positives, misses=misses))["new misses"] == verdict


def test_one_image_at_the_edge_turns_pass_into_fail():
    """As many as the reference data hold out: 15 of 764 are missed by both, 1 % of 764 are 7.64 images."""
    assert exit_code(candidate(764, 286, missed_by_both=15, misses=7)) == 0
    eighth = candidate(764, 286, missed_by_both=15, misses=8)
    assert not_passed(eighth) == dict.fromkeys(("new misses", "error ratio", "sensitivity loss"), "FAIL")
    assert exit_code(eighth) == 1


@pytest.mark.parametrize(
    ("negatives", "alarms", "verdict"),
    [(59, 0, "PASS"), (58, 0, "INCONCLUSIVE"), (93, 1, "PASS"), (92, 1, "INCONCLUSIVE"), (100, 3, "FAIL")],
)
def test_new_false_alarms_at_the_edge(negatives, alarms, verdict):
    assert verdicts(candidate(300, negatives, alarms=alarms))["new false alarms"] == verdict


def family(each: int, count: int) -> list[str]:
    """Patients of `count` images, the first `each` of one child, every other a child of its own."""
    return [f"{max(image - each + 1, 0)}" for image in range(count)]


def test_images_of_one_patient_are_no_evidence_of_one_another():
    """Seven misses of seven patients pass, seven of one do not: that may have been any patient with many images."""
    apart, together = (
        candidate(764, 286, missed_by_both=15, misses=7, patients=patients) for patients in ((), family(7, 1050))
    )
    assert verdicts(apart)["new misses"] == "PASS"
    gate = gates(together)["new misses"]
    assert (gate.verdict, gate.images, gate.patients) == ("INCONCLUSIVE", 764, 758)
    assert gate.bound > 1.5 * gates(apart)["new misses"].bound


def test_an_inconclusive_gate_says_how_many_more_images_would_settle_it():
    """Without a miss, 149 patients are the fewest that pass."""
    for positives in (148, 100, 30):
        gate = gates(candidate(positives))["new misses"]
        assert gate.more_images == 149 - positives
        assert gate.measured.endswith(f"; {149 - positives:,} more images like these would settle it")
    assert gates(candidate(149))["new misses"].more_images is None


@pytest.mark.parametrize("name", ["new misses", "sensitivity loss"])
def test_so_many_more_images_at_the_same_rate_do_settle_it(name):
    gate = gates(candidate(300, misses=3))[name]
    times = (300 + gate.more_images) / 300
    more = gates(candidate(round(300 * times), misses=round(3 * times)))[name]
    assert gate.verdict == "INCONCLUSIVE"
    assert more.bound == pytest.approx(gate.margin, rel=0.06)  # a miss more or less is that much


def test_a_rate_at_the_margin_itself_is_settled_by_no_number_of_images():
    at_margin = dataclasses.replace(STRICT.whole.new_misses, observed=0.02, margin=0.02)
    policy = dataclasses.replace(STRICT, whole=dataclasses.replace(STRICT.whole, new_misses=at_margin))
    gate = gates(candidate(300, misses=6), policy)["new misses"]
    assert (gate.verdict, gate.more_images) == ("INCONCLUSIVE", None)
    assert gate.measured.endswith("no number of images settles it")


def test_a_gate_holds_all_that_decided_it():
    gate = gates(candidate(764, 286, missed_by_both=15, misses=7))["new misses"]
    assert (gate.reference, gate.candidate) == pytest.approx((749 / 764, 742 / 764))
    assert (gate.harm, gate.margin, gate.images, gate.patients) == (7 / 764, 0.02, 764, 764)
    assert gate.bound == pytest.approx(clopper_pearson_upper(7, 764))
    assert gate.measured == "7 of 764 positives of 764 patients (0.92%), at most 1.71% with 95 % confidence"
    assert gate.allowed == "at most 1.00% seen, 2.00% proven"


def subgroup(name: str, members: Sequence[int], count: int) -> Subgroup:
    return Subgroup(name=name, members=np.isin(np.arange(count), list(members)))


def test_a_subgroup_that_fails_is_caught_though_the_whole_passes():
    """All seven new misses are among 100 of 764 positives."""
    judged = candidate(764, 286, missed_by_both=15, misses=7)
    assert exit_code(judged) == 0
    split = (subgroup("virus", range(100), 1050), subgroup("bacteria", range(100, 764), 1050))
    found = dataclasses.replace(judged, subgroups=split)
    assert not_passed(found) == {"new misses: virus": "FAIL"}
    assert exit_code(found) == 1
    assert gates(found)["new misses: virus"].harm == 0.07


def test_a_series_of_negatives_that_fails_is_caught_though_the_whole_passes():
    judged = dataclasses.replace(
        candidate(764, 286, alarms=6),
        subgroups=(subgroup("IM", range(764, 864), 1050), subgroup("NORMAL2-IM", range(864, 1050), 1050)),
    )
    assert not_passed(judged) == {"new false alarms: IM": "FAIL"}


def shifted(name: str, **planted) -> Shifted:
    return Shifted(name=name, pair=paired(465, 161, **planted))


@pytest.mark.parametrize(
    ("planted", "gate", "verdict"),
    [
        ({"misses": 6}, "sensitivity loss: blur", "PASS"),
        ({"misses": 7}, "sensitivity loss: blur", "FAIL"),
        ({"alarms": 8}, "specificity loss: blur", "PASS"),
        ({"alarms": 9}, "specificity loss: blur", "FAIL"),
    ],
)
def test_a_shift_that_fails_is_caught_though_the_whole_passes(planted, gate, verdict):
    judged = dataclasses.replace(candidate(764, 286), shifts=(shifted("noise"), shifted("blur", **planted)))
    found = verdicts(judged)
    assert found[gate] == verdict
    assert not_passed(judged) == ({} if verdict == "PASS" else {gate: "FAIL"})
    assert len(found) == len(GATES) + 4


@pytest.mark.parametrize(
    ("missed", "misses", "verdict"),
    [
        (9, 7, "FAIL"),  # the float model finds 0.981: it meets its target, and nothing is allowed besides
        (56, 7, "PASS"),  # it finds 0.880: a tenth short, so that half of a tenth more may be seen
        (56, 22, "PASS"),
        (56, 23, "INCONCLUSIVE"),
        (56, 30, "INCONCLUSIVE"),
        (56, 31, "FAIL"),  # 0.0667 of 465 are lost, 0.015 + 0.5 x 0.1004 = 0.0652 may be seen
        (228, 120, "FAIL"),  # however short it is, what is left is not halved once more
    ],
)
def test_where_the_float_model_misses_its_target_the_limits_grow_by_half_of_what_it_is_short(missed, misses, verdict):
    judged = dataclasses.replace(
        candidate(764, 286), shifts=(shifted("brighter", missed_by_both=missed, misses=misses),)
    )
    assert verdicts(judged)["sensitivity loss: brighter"] == verdict
    assert exit_code(judged) == {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}[verdict]


def test_what_must_be_proven_grows_by_what_is_proven_of_the_shortfall():
    """Of 465 positives 409 are found. The bound p has a chance of 5 % that so few are."""
    gate = gates(dataclasses.replace(candidate(), shifts=(shifted("blur", missed_by_both=56, misses=7),)))[
        "sensitivity loss: blur"
    ]
    most = 0.98 - 2 * (gate.margin - 0.03)  # share 0.5 of the shortfall, as error_ratio.most is 1.5
    assert most == pytest.approx(clopper_pearson_upper(409, 465))
    assert sum(comb(465, i) * most**i * (1 - most) ** (465 - i) for i in range(410)) == pytest.approx(0.05, abs=1e-9)
    assert gate.allowed == "at most 6.52% seen, 6.82% proven"


def test_a_shortfall_is_that_of_patients_and_none_where_the_target_is_met():
    pair = paired(200, 10, missed_by_both=20).select(truth(200, 10))
    assert shortfall(pair, 0.98, 0.95).seen == pytest.approx(0.08)
    assert shortfall(pair, 0.9, 0.95) == shortfall(pair, 0.5, 0.95) == Shortfall()
    of_few = paired(200, 10, missed_by_both=20, patients=[f"{image // 4}" for image in range(210)])
    assert shortfall(of_few.select(truth(200, 10)), 0.98, 0.95).proven < shortfall(pair, 0.98, 0.95).proven


def test_a_candidate_that_loses_what_a_growing_limit_just_forbids_passes_no_oftener_than_the_confidence_says():
    """A float model that finds 0.9 of the positives; of 300 the candidate loses 0.03 + 0.5 x 0.08 in truth."""
    rng = np.random.default_rng(0)
    positive = np.ones(300, np.bool_)
    passed = 0
    for _ in range(400):
        found = rng.random(300) < 0.9
        kept = found & (rng.random(300) >= 0.07 / 0.9)
        one, other = (scores(positive, np.where(right_ones, 1.0, -1.0)) for right_ones in (found, kept))
        pair = PairedScores(reference=one, candidate=other, reference_threshold=0.0, candidate_threshold=0.0)
        short = shortfall(pair, 0.98, STRICT.confidence)
        gate = lost_gate("loss", pair, STRICT.shifts.sensitivity, STRICT.confidence, short=short, share=0.5)
        passed += gate.verdict == "PASS"
    assert 0 < passed <= 0.05 * 400


def test_no_limit_grows_to_a_half():
    """A float model that finds nothing under a shift has nothing to lose there, and its gate still stands."""
    gate = gates(dataclasses.replace(candidate(), shifts=(shifted("noise", missed_by_both=465),)))
    assert gate["sensitivity loss: noise"].margin == 0.49


def test_a_shift_of_one_class_has_one_gate():
    one_class = Shifted(name="blur", pair=paired(465, 161).select(truth(465, 161)))
    assert {name for name in verdicts(dataclasses.replace(candidate(), shifts=(one_class,))) if ":" in name} == {
        "sensitivity loss: blur"
    }


def test_from_99_to_98_percent_fails_although_one_point_is_within_every_margin():
    judged = candidate(1000, 300, missed_by_both=10, misses=10)
    assert judged.pair.sensitivity_difference == pytest.approx(-0.01)
    assert not_passed(judged) == {"error ratio": "FAIL"}
    assert gates(judged)["error ratio"].harm == pytest.approx(2.0)


@pytest.mark.parametrize(("misses", "verdict"), [(5, "PASS"), (6, "FAIL")])
def test_the_error_ratio_at_the_edge(misses, verdict):
    """Ten misses of 1,000 may become fifteen."""
    assert verdicts(candidate(1000, 300, missed_by_both=10, misses=misses))["error ratio"] == verdict


@pytest.mark.parametrize(("misses", "ratio", "verdict"), [(0, 0.0, "PASS"), (7, 1.4, "PASS"), (8, 1.6, "FAIL")])
def test_a_float_model_without_a_miss_counts_as_the_least_miss_rate(misses, ratio, verdict):
    """0.5 % of 1,000 are 5 misses, half again as many 7.5."""
    gate = gates(candidate(1000, 300, misses=misses))["error ratio"]
    assert (gate.harm, gate.verdict) == (pytest.approx(ratio), verdict)
    assert "the float model's 0 (counted as 0.50%, the least)" in gate.measured


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


@pytest.mark.parametrize(("misses", "verdict"), [(0, "PASS"), (3, "INCONCLUSIVE"), (4, "FAIL")])
def test_sensitivity_loss(misses, verdict):
    assert verdicts(candidate(misses=misses))["sensitivity loss"] == verdict


@pytest.mark.parametrize(("alarms", "verdict"), [(7, "PASS"), (8, "FAIL")])
def test_specificity_loss(alarms, verdict):
    assert verdicts(candidate(alarms=alarms))["specificity loss"] == verdict


@pytest.mark.parametrize(
    ("positives", "swapped", "verdict"),
    [(300, 0, "PASS"), (300, 1, "PASS"), (220, 1, "INCONCLUSIVE"), (300, 2, "FAIL")],
)
def test_auroc_loss(positives, swapped, verdict):
    """Positives that fall below every negative each cost 1/positives of the area."""
    logits = right(positives, 300)
    logits[:swapped] = -9.0 - np.arange(swapped)
    assert verdicts(candidate(positives, logits=logits))["AUROC loss"] == verdict


@pytest.mark.parametrize(("size_bytes", "verdict"), [(400_000, "PASS"), (400_001, "FAIL")])
def test_model_size(size_bytes, verdict):
    assert verdicts(dataclasses.replace(candidate(), model_bytes=size_bytes))["model size"] == verdict


@pytest.mark.parametrize(("arena_bytes", "verdict"), [(524_288, "PASS"), (524_289, "FAIL"), (None, None)])
def test_arena_memory(arena_bytes, verdict):
    assert verdicts(dataclasses.replace(candidate(), arena_bytes=arena_bytes)).get("arena memory") == verdict


@pytest.mark.parametrize(("near", "verdict"), [(12, "PASS"), (13, "FAIL")])
def test_a_grid_too_coarse_about_the_threshold_fails(near, verdict):
    """2 % of 600 images; all others are 2 logits away or more."""
    logits = right(300, 300)
    logits[:near] = 0.4
    judged = dataclasses.replace(candidate(logits=logits), logit_step=0.5)
    assert verdicts(judged)["logit resolution"] == verdict
    assert verdicts(dataclasses.replace(judged, logit_step=0.4))["logit resolution"] == "PASS"
    assert "logit resolution" not in verdicts(dataclasses.replace(judged, logit_step=None))


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
    wider = dataclasses.replace(STRICT, model=dataclasses.replace(STRICT.model, reproduction_logits=0.1))
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


def test_in_short_a_family_that_passes_is_one_row_and_what_does_not_stands_alone():
    judged = dataclasses.replace(
        candidate(764, 286, missed_by_both=15, misses=7),
        subgroups=(subgroup("virus", range(100), 1050), subgroup("bacteria", range(100, 764), 1050)),
        shifts=(shifted("noise"), shifted("blur", misses=6), shifted("darker", alarms=2)),
    )
    short = {gate.name: gate for gate in in_short(evaluate_gates(judged, STRICT))}
    assert short.keys() - GATES == {
        "new misses: virus",
        "new misses by subgroup",
        "sensitivity loss by shift",
        "specificity loss by shift",
    }
    assert short["new misses: virus"].verdict == "FAIL"
    blur = gates(judged)["sensitivity loss: blur"]
    assert short["sensitivity loss by shift"] == GateResult(
        name="sensitivity loss by shift",
        verdict="PASS",
        measured=f"blur, the closest of 3: {blur.measured}",
        allowed=blur.allowed,
    )
    assert short["specificity loss by shift"].measured.startswith("darker, the closest of 3: ")
    assert overall(short.values()) == overall(evaluate_gates(judged, STRICT)) == "FAIL"


def test_bounds_of_the_gates_are_those_of_the_statistics():
    patients = family(7, 1050)
    judged = candidate(764, 286, missed_by_both=15, misses=7, patients=patients)
    lost = np.arange(764) < 7
    assert gates(judged)["new misses"].bound == clustered_upper(lost, patients[:764], 0.95)
