"""The gates: may this compressed model replace the float one?

Every gate answers PASS, FAIL or INCONCLUSIVE. A gate on a rate passes only when its one-sided 95 % bound keeps
to the margin, fails when the observed rate itself is beyond it, and is inconclusive in between: there were too
few images to tell, which is never a pass. Evaluating gates is pure; what follows from them is the caller's.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.intervals import clopper_pearson_upper
from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.bundle import GateResult, Verdict
from slimscan_edge.errors import EXIT_DONE, EXIT_GATE_FAILED, EXIT_GATE_INCONCLUSIVE
from slimscan_edge.preprocess import PreprocessSpec

CONFIDENCE = 0.95
EXIT_CODES: dict[Verdict, int] = {
    "PASS": EXIT_DONE,
    "FAIL": EXIT_GATE_FAILED,
    "INCONCLUSIVE": EXIT_GATE_INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """What a compressed model must keep to. The defaults are the strict ones.

    Attributes:
        new_miss_margin: Largest share of positives that the float model finds and the candidate misses.
        new_alarm_margin: Largest share of negatives that the float model clears and the candidate does not.
        sensitivity_margin: Largest loss of sensitivity, each model at its own operating point.
        specificity_margin: Largest loss of specificity.
        auroc_margin: Largest loss of AUROC.
        reproduction_logits: Largest difference between the float model's scores and those it was validated with.
        size_bytes: Largest model file.
    """

    new_miss_margin: float = 0.02
    new_alarm_margin: float = 0.05
    sensitivity_margin: float = 0.02
    specificity_margin: float = 0.05
    auroc_margin: float = 0.01
    reproduction_logits: float = 0.05
    size_bytes: int = 400_000

    def __post_init__(self) -> None:
        for name in ("new_miss_margin", "new_alarm_margin", "sensitivity_margin", "specificity_margin", "auroc_margin"):
            if not 0 < getattr(self, name) < 0.5:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 0.5")
        if self.reproduction_logits <= 0 or self.size_bytes <= 0:
            raise ValueError("reproduction_logits and size_bytes must be above 0")


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
    """

    pair: PairedScores
    validated: Scores
    chosen_on: NDArray[np.bool_]
    target_sensitivity: float
    reference_preprocess: PreprocessSpec
    candidate_preprocess: PreprocessSpec
    model_bytes: int


def evaluate_gates(candidate: Candidate, policy: GatePolicy) -> tuple[GateResult, ...]:
    """Judge a candidate by every gate."""
    pair = candidate.pair
    misses, alarms = len(pair.new_misses), len(pair.new_false_alarms)
    low_sensitivity = pair.sensitivity_difference_interval(_TWO_SIDED).low
    low_specificity = pair.specificity_difference_interval(_TWO_SIDED).low
    low_auroc = pair.auroc_difference_interval(_TWO_SIDED).low
    return (
        _reproduction(candidate, policy.reproduction_logits),
        _operating_point(candidate),
        _preprocessing(candidate),
        _rate("new misses", misses, pair.reference.positives, "positives", policy.new_miss_margin),
        _rate("new false alarms", alarms, pair.reference.negatives, "negatives", policy.new_alarm_margin),
        _loss("sensitivity", pair.sensitivity_difference, low_sensitivity, policy.sensitivity_margin),
        _loss("specificity", pair.specificity_difference, low_specificity, policy.specificity_margin),
        _loss("AUROC", pair.auroc_difference, low_auroc, policy.auroc_margin),
        _size(candidate.model_bytes, policy.size_bytes),
    )


def overall(gates: tuple[GateResult, ...]) -> Verdict:
    """PASS when every gate passes, else FAIL when one fails, else INCONCLUSIVE."""
    verdicts = {gate.verdict for gate in gates}
    if verdicts == {"PASS"}:
        return "PASS"
    return "FAIL" if "FAIL" in verdicts else "INCONCLUSIVE"


_TWO_SIDED = 2 * CONFIDENCE - 1
"""Confidence of the two-sided interval whose lower end is the one-sided bound at `CONFIDENCE`."""


def _verdict(observed: float, bound: float, margin: float) -> Verdict:
    """Of a harm that was observed, its one-sided upper bound, and what is allowed."""
    if observed > margin:
        return "FAIL"
    return "PASS" if bound <= margin else "INCONCLUSIVE"


def _rate(name: str, count: int, total: int, of: str, margin: float) -> GateResult:
    bound = clopper_pearson_upper(count, total, CONFIDENCE)
    return GateResult(
        name=name,
        verdict=_verdict(count / total, bound, margin),
        measured=f"{count} of {total} {of} ({count / total:.2%}), at most {bound:.2%} with 95 % confidence",
        allowed=f"at most {margin:.2%}",
    )


def _loss(name: str, difference: float, low: float, margin: float) -> GateResult:
    return GateResult(
        name=f"{name} loss",
        verdict=_verdict(-difference, -low, margin),
        measured=f"{name} changed by {difference:+.4f}, lost at most {max(0.0, -low):.4f} with 95 % confidence",
        allowed=f"lose at most {margin:.4f}",
    )


def _reproduction(candidate: Candidate, tolerance: float) -> GateResult:
    """Is the float model still the one that was validated, on the pictures it was validated with?"""
    difference = float(np.abs(candidate.pair.reference.logits - candidate.validated.logits).max())
    same_labels = np.array_equal(candidate.pair.reference.positive, candidate.validated.positive)
    return GateResult(
        name="float model reproduces its validation",
        verdict="PASS" if difference <= tolerance and same_labels else "FAIL",
        measured=f"logits differ by at most {difference:.4f} from scores.csv"
        + ("" if same_labels else "; the labels differ"),
        allowed=f"at most {tolerance:.4f}, the same labels",
    )


def _operating_point(candidate: Candidate) -> GateResult:
    """Does the float model's threshold do what it was chosen for? Classes swapped in all files show here alone.

    Both models would be wrong alike, and no gate that compares the two could tell.
    """
    found = candidate.validated.select(candidate.chosen_on).sensitivity(candidate.pair.reference_threshold)
    return GateResult(
        name="float model's operating point",
        verdict="PASS" if found >= candidate.target_sensitivity else "FAIL",
        measured=f"sensitivity {found:.4f} on the images that it was chosen on",
        allowed=f"at least {candidate.target_sensitivity:.4f}",
    )


def _preprocessing(candidate: Candidate) -> GateResult:
    same = candidate.candidate_preprocess == candidate.reference_preprocess
    return GateResult(
        name="same preprocessing",
        verdict="PASS" if same else "FAIL",
        measured=_in_words(candidate.candidate_preprocess),
        allowed="the float model's" if same else _in_words(candidate.reference_preprocess),
    )


def _in_words(spec: PreprocessSpec) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in asdict(spec).items())


def _size(size_bytes: int, allowed: int) -> GateResult:
    return GateResult(
        name="model size",
        verdict="PASS" if size_bytes <= allowed else "FAIL",
        measured=f"{size_bytes:,} bytes",
        allowed=f"at most {allowed:,} bytes",
    )
