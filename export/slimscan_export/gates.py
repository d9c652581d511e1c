"""The gates: may this compressed model replace the float one?

Every gate answers PASS, FAIL or INCONCLUSIVE, by a policy (`slimscan_export.policy`). A gate on a rate or a loss fails
when what was observed is beyond what may be seen, passes when its one-sided bound keeps to the margin, and is
inconclusive in between: there were too few images to tell, which is never a pass. Bounds take patients, not images, as
what was drawn. Evaluating gates is pure; what follows from them is the caller's.

McNemar's test is no gate: that a difference is not significant does not show that there is none, and with many images
one that harms nobody is significant. Its p-values are reported. So is latency, which a workstation cannot judge.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.bundle import ARENA_MEMORY, GateResult, Verdict
from slimscan_edge.errors import EXIT_DONE, EXIT_GATE_FAILED, EXIT_GATE_INCONCLUSIVE
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_export.paired_gates import (
    Gate,
    auroc_gate,
    error_ratio_gate,
    lost_gate,
    newly_wrong_gate,
    resolution_gate,
    shortfall,
)
from slimscan_export.policy import GatePolicy

EXIT_CODES: dict[Verdict, int] = {
    "PASS": EXIT_DONE,
    "FAIL": EXIT_GATE_FAILED,
    "INCONCLUSIVE": EXIT_GATE_INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subgroup:
    """Images of one class that have something in common.

    Attributes:
        name: What ("virus").
        members: bool `[n]`, among the images of the pair that is judged; at least one, all of one class.
    """

    name: str
    members: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shifted:
    """Both models on validation images under a named shift."""

    name: str
    pair: PairedScores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A compressed model, what it answered, and what it is held against.

    Attributes:
        pair: The float model (reference) and the candidate on the same validation images.
        validated: The scores that the float model was validated with, on the same images.
        chosen_on: bool `[n]`, the images among them that the float model's threshold was chosen on.
        target_sensitivity: What it was chosen for, 0 to 1.
        reference_preprocess: Preprocessing of the float model.
        candidate_preprocess: Preprocessing that the candidate was scored through.
        model_bytes: Size of the candidate's file.
        subgroups: Of the pair's images.
        shifts: Both models under each named shift.
        logit_step: Of the candidate's quantised logit, in logits; None when it is not quantised.
        arena_bytes: What TFLite Micro takes; None when it was not measured.
    """

    pair: PairedScores
    validated: Scores
    chosen_on: NDArray[np.bool_]
    target_sensitivity: float
    reference_preprocess: PreprocessSpec
    candidate_preprocess: PreprocessSpec
    model_bytes: int
    subgroups: tuple[Subgroup, ...] = ()
    shifts: tuple[Shifted, ...] = ()
    logit_step: float | None = None
    arena_bytes: int | None = None


def evaluate_gates(candidate: Candidate, policy: GatePolicy) -> tuple[Gate, ...]:
    """Judge a candidate by every gate that there is something to judge by.

    Raises:
        InputError: The images are of fewer than two patients of either class.
    """
    pair, whole, confidence = candidate.pair, policy.whole, policy.confidence
    positive = pair.reference.positive
    gates = [
        _reproduction(candidate, policy.model.reproduction_logits),
        _operating_point(candidate),
        _preprocessing(candidate),
        newly_wrong_gate("new misses", pair.select(positive), whole.new_misses, confidence),
        newly_wrong_gate("new false alarms", pair.select(~positive), whole.new_false_alarms, confidence),
        error_ratio_gate(pair, policy.error_ratio),
        lost_gate("sensitivity loss", pair.select(positive), whole.sensitivity, confidence),
        lost_gate("specificity loss", pair.select(~positive), whole.specificity, confidence),
        auroc_gate(pair, whole.auroc, confidence),
        *_by_subgroup(candidate, policy),
        *_by_shift(candidate, policy),
    ]
    if candidate.logit_step:
        gates.append(resolution_gate(pair, candidate.logit_step, policy.model.near_threshold))
    gates.append(_bytes("model size", candidate.model_bytes, policy.model.size_bytes))
    if candidate.arena_bytes is not None:
        gates.append(_bytes(ARENA_MEMORY, candidate.arena_bytes, policy.model.arena_bytes))
    return tuple(gates)


def overall(gates: Iterable[Gate | GateResult]) -> Verdict:
    """PASS when every gate passes, else FAIL when one fails, else INCONCLUSIVE."""
    verdicts = {gate.verdict for gate in gates}
    if verdicts == {"PASS"}:
        return "PASS"
    return "FAIL" if "FAIL" in verdicts else "INCONCLUSIVE"


def in_short(gates: Sequence[Gate]) -> tuple[GateResult, ...]:
    """The gates for a manifest and a screen: those of a family that passed as one, with the closest of them.

    A family here is told apart by what it measures too, so "new misses by subgroup" is one row. Gates that did not
    pass stand for themselves.
    """
    rows: dict[str, list[Gate]] = {}
    for gate in gates:
        alone = not gate.family or gate.verdict != "PASS"
        rows.setdefault(gate.name if alone else f"{gate.what} by {gate.family}", []).append(gate)
    return tuple(
        members[0].short if members[0].name == name else _closest(name, members) for name, members in rows.items()
    )


def _closest(name: str, passed: Sequence[Gate]) -> GateResult:
    closest = max(passed, key=lambda gate: (gate.bound or 0.0) / (gate.margin or 1.0))
    return GateResult(
        name=name,
        verdict="PASS",
        measured=f"{closest.member}, the closest of {len(passed)}: {closest.measured}",
        allowed=closest.allowed,
    )


def _by_subgroup(candidate: Candidate, policy: GatePolicy) -> Iterable[Gate]:
    for subgroup in candidate.subgroups:
        pair = candidate.pair.select(subgroup.members)
        what, limit = (
            ("new misses", policy.subgroups.new_misses)
            if pair.reference.positives
            else ("new false alarms", policy.subgroups.new_false_alarms)
        )
        yield newly_wrong_gate(f"{what}: {subgroup.name}", pair, limit, policy.confidence, family="subgroup")


def _by_shift(candidate: Candidate, policy: GatePolicy) -> Iterable[Gate]:
    """Losses under each named shift; where the float model misses its own target, also against what it misses there."""
    confidence = policy.confidence
    for shift in candidate.shifts:
        if shift.pair.reference.positives:
            pair = shift.pair.select(shift.pair.reference.positive)
            yield lost_gate(
                f"sensitivity loss: {shift.name}",
                pair,
                policy.shifts.sensitivity,
                confidence,
                family="shift",
                short=shortfall(pair, candidate.target_sensitivity, confidence),
                share=policy.error_ratio.most - 1,
            )
    for shift in candidate.shifts:
        if shift.pair.reference.negatives:
            pair = shift.pair.select(~shift.pair.reference.positive)
            yield lost_gate(
                f"specificity loss: {shift.name}", pair, policy.shifts.specificity, confidence, family="shift"
            )


def _reproduction(candidate: Candidate, tolerance: float) -> Gate:
    """Is the float model still the one that was validated, on the pictures it was validated with?"""
    difference = float(np.abs(candidate.pair.reference.logits - candidate.validated.logits).max())
    same_labels = np.array_equal(candidate.pair.reference.positive, candidate.validated.positive)
    return Gate(
        name="float model reproduces its validation",
        verdict="PASS" if difference <= tolerance and same_labels else "FAIL",
        measured=f"logits differ by at most {difference:.4f} from scores.csv"
        + ("" if same_labels else "; the labels differ"),
        allowed=f"at most {tolerance:.4f}, the same labels",
        harm=difference,
        margin=tolerance,
        images=len(candidate.validated),
        patients=len(set(candidate.validated.patients)),
    )


def _operating_point(candidate: Candidate) -> Gate:
    """Does the float model's threshold do what it was chosen for? Classes swapped in all files show here alone.

    Both models would be wrong alike, and no gate that compares the two could tell.
    """
    chosen_on = candidate.validated.select(candidate.chosen_on)
    found = chosen_on.sensitivity(candidate.pair.reference_threshold)
    return Gate(
        name="float model's operating point",
        verdict="PASS" if found >= candidate.target_sensitivity else "FAIL",
        measured=f"sensitivity {found:.4f} on the images that it was chosen on",
        allowed=f"at least {candidate.target_sensitivity:.4f}",
        reference=found,
        margin=candidate.target_sensitivity,
        images=chosen_on.positives,
        patients=len(set(chosen_on.select(chosen_on.positive).patients)),
    )


def _preprocessing(candidate: Candidate) -> Gate:
    same = candidate.candidate_preprocess == candidate.reference_preprocess
    return Gate(
        name="same preprocessing",
        verdict="PASS" if same else "FAIL",
        measured=_in_words(candidate.candidate_preprocess),
        allowed="the float model's" if same else _in_words(candidate.reference_preprocess),
    )


def _bytes(name: str, found: int, allowed: int) -> Gate:
    return Gate(
        name=name,
        verdict="PASS" if found <= allowed else "FAIL",
        measured=f"{found:,} bytes",
        allowed=f"at most {allowed:,} bytes",
        candidate=found,
        harm=found,
        margin=allowed,
    )


def _in_words(spec: PreprocessSpec) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in asdict(spec).items())
