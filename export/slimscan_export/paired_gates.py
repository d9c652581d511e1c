"""Gates on what two models decide of the same images: rates and losses, with bounds that take patients as drawn."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np

from slimscan_bench.clustering import clustered_loss, clustered_upper
from slimscan_bench.scores import PairedScores
from slimscan_edge.bundle import GateResult, Verdict
from slimscan_export.policy import ErrorRatio, Limit

Family = Literal["", "subgroup", "shift"]
"""What a gate is one of many of; "" for a gate of its own."""

_MOST_TIMES = 2.0**20
"""More images than so many times those at hand are called none."""

_MOST_MARGIN = 0.49
"""No margin grows beyond it, for one of a half would prove nothing."""

_ROUNDING = 1 + 1e-9
"""A share that is exactly what is allowed is allowed, whatever its last binary digit."""


class Bound(Protocol):
    """A one-sided bound of a harm."""

    def __call__(self, times: float = 1.0) -> float:
        """The bound, had there been so many times as many images and patients, just like those there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate as it was decided, with all that decided it. What a gate does not have is None.

    Attributes:
        name: What was compared ("new misses", "sensitivity loss: blur").
        family: What it is one of many of.
        verdict: `PASS`, `FAIL` or `INCONCLUSIVE`.
        measured: The figures in words.
        allowed: What they had to keep to, in words.
        reference: The float model's figure that the gate is about: a sensitivity, a miss rate, an area.
        candidate: The same of the candidate.
        harm: What was observed and is limited: a share of images, a loss, a ratio, bytes.
        margin: What the bound, or without one the harm, had to keep to.
        bound: One-sided upper bound of the harm.
        images: How many it was observed on.
        patients: Of how many patients.
        more_images: Of an inconclusive gate, how many further images like these, at the rate observed, would settle
            it; None when no number would.
    """

    name: str
    family: Family = ""
    verdict: Verdict
    measured: str
    allowed: str
    reference: float | None = None
    candidate: float | None = None
    harm: float | None = None
    margin: float | None = None
    bound: float | None = None
    images: int | None = None
    patients: int | None = None
    more_images: int | None = None

    @property
    def what(self) -> str:
        """What was compared, without the member of a family that it was compared on: "sensitivity loss"."""
        return self.name.partition(": ")[0]

    @property
    def member(self) -> str:
        """Which of its family: "blur"; "" for a gate of its own."""
        return self.name.partition(": ")[2]

    @property
    def short(self) -> GateResult:
        """As a bundle's manifest holds it."""
        return GateResult(name=self.name, verdict=self.verdict, measured=self.measured, allowed=self.allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """How far a float model's sensitivity on some images falls short of its own target, shares of 0 or more.

    Attributes:
        seen: On these images.
        proven: At least so much, by the one-sided bound of the sensitivity.
    """

    seen: float = 0.0
    proven: float = 0.0


def shortfall(pair: PairedScores, target_sensitivity: float, confidence: float) -> Shortfall:
    """Compare the float model's sensitivity with its target.

    Args:
        pair: Positive images.
        target_sensitivity: What the float model's threshold was chosen for, 0 to 1.
        confidence: Of the one-sided bound, 0.5 to 1.
    """
    found = pair.reference.decisions(pair.reference_threshold)
    at_most = clustered_upper(found, pair.reference.patients, confidence)
    return Shortfall(
        seen=max(0.0, target_sensitivity - float(found.mean())), proven=max(0.0, target_sensitivity - at_most)
    )


def newly_wrong_gate(name: str, pair: PairedScores, limit: Limit, confidence: float, *, family: Family = "") -> Gate:
    """A gate on images of one class that the float model decides rightly and the candidate does not."""
    lost = pair.changes < 0
    harm, bound = float(lost.mean()), partial(clustered_upper, lost, pair.reference.patients, confidence)
    measured = f"{int(lost.sum())} of {_counted(pair)} ({harm:.2%}), at most {bound():.2%} {_with(confidence)}"
    return _limited(name, pair, limit, bound, harm=harm, family=family, measured=measured)


def lost_gate(
    name: str,
    pair: PairedScores,
    limit: Limit,
    confidence: float,
    *,
    family: Family = "",
    short: Shortfall | None = None,
    share: float = 0.0,
) -> Gate:
    """A gate on the share of images of one class that are decided rightly, mended ones counted.

    Args:
        name: What is compared.
        pair: On the images that it is about.
        limit: What is allowed where the float model meets its target.
        confidence: Of the bound, 0.5 to 1.
        family: What the gate is one of many of.
        short: Of the float model on these images; None where it has no target.
        share: Of that shortfall, which the candidate may lose besides: of what was seen in what may be seen, and of
            what is proven in what must be proven.
    """
    besides = ""
    if short and short.seen:
        limit = _widened(limit, short, share)
        besides = f"; the float model is {short.seen:.2%} short of its target here, {short.proven:.2%} of it proven"
    changes = pair.changes
    bound = partial(clustered_loss, changes, pair.reference.patients, confidence)
    measured = (
        f"{int((changes < 0).sum())} lost and {int((changes > 0).sum())} gained of {_counted(pair)} "
        f"({changes.mean():+.2%}), lost at most {max(0.0, bound()):.2%} {_with(confidence)}{besides}"
    )
    return _limited(name, pair, limit, bound, harm=0.0 - float(changes.mean()), family=family, measured=measured)


def auroc_gate(pair: PairedScores, limit: Limit, confidence: float) -> Gate:
    """A gate on the loss of AUROC, by DeLong with placements summed by patient."""
    harm = 0.0 - pair.auroc_difference
    reach = -pair.auroc_difference_interval(2 * confidence - 1, clustered=True).low - harm
    return _limited(
        "AUROC loss",
        pair,
        limit,
        lambda times=1.0: harm + reach / math.sqrt(times),
        harm=harm,
        measured=f"AUROC changed by {-harm:+.4f}, lost at most {max(0.0, harm + reach):.4f} {_with(confidence)}",
        figures=(pair.reference.auroc, pair.candidate.auroc),
    )


def error_ratio_gate(pair: PairedScores, limit: ErrorRatio) -> Gate:
    """A gate on all misses of the candidate over all of the float model's."""
    table = pair.positives_table
    before, after = table.candidate_only + table.neither, table.reference_only + table.neither
    positives = sum(table)
    counted = max(before / positives, limit.least_miss_rate)
    ratio = after / positives / counted
    least = f" (counted as {counted:.2%}, the least)" if counted > before / positives else ""
    return Gate(
        name="error ratio",
        verdict="PASS" if ratio <= limit.most * _ROUNDING else "FAIL",
        measured=f"{after} misses of {positives} positives against the float model's {before}{least}: "
        f"{ratio:.2f} times as many",
        allowed=f"at most {limit.most:g} times as many",
        reference=before / positives,
        candidate=after / positives,
        harm=ratio,
        margin=limit.most,
        images=positives,
        patients=len(pair.positive_patients),
    )


def resolution_gate(pair: PairedScores, step: float, most: float) -> Gate:
    """Is the grid of the int8 logit so fine that the picture decides and not the rounding?

    Args:
        pair: The candidate's scores, on that grid.
        step: Of the grid, logits.
        most: Share of images that may lie within one step of the threshold.
    """
    near = np.abs(pair.candidate.logits - pair.candidate_threshold) < step
    share = float(near.mean())
    return Gate(
        name="logit resolution",
        verdict="PASS" if share <= most * _ROUNDING else "FAIL",
        measured=f"{int(near.sum())} of {len(pair):,} images ({share:.2%}) within one step of the logit, {step:.4f}, "
        "of the threshold",
        allowed=f"at most {most:.2%}",
        harm=share,
        margin=most,
        images=len(pair),
        patients=len(set(pair.reference.patients)),
    )


def _limited(
    name: str,
    pair: PairedScores,
    limit: Limit,
    bound: Bound,
    *,
    harm: float,
    measured: str,
    family: Family = "",
    figures: tuple[float, float] | None = None,
) -> Gate:
    """A gate on a harm.

    Args:
        name: What was compared.
        pair: On the images that it is about.
        limit: What is allowed.
        bound: One-sided bound of the harm.
        harm: What was observed.
        measured: The figures in words.
        family: What the gate is one of many of.
        figures: Of the float model and the candidate; the share decided rightly when None.
    """
    verdict: Verdict = "PASS" if bound() <= limit.margin * _ROUNDING else "INCONCLUSIVE"
    if harm > limit.observed * _ROUNDING:
        verdict = "FAIL"
    more = _more_images(bound, limit.margin, len(pair)) if verdict == "INCONCLUSIVE" else None
    if verdict == "INCONCLUSIVE":
        measured += f"; {more:,} more images like these would settle it" if more else "; no number of images settles it"
    reference, candidate = figures or _shares_right(pair)
    return Gate(
        name=name,
        family=family,
        verdict=verdict,
        measured=measured,
        allowed=f"at most {limit.observed:.2%} seen, {limit.margin:.2%} proven",
        reference=reference,
        candidate=candidate,
        harm=harm,
        margin=limit.margin,
        bound=bound(),
        images=len(pair),
        patients=len(set(pair.reference.patients)),
        more_images=more,
    )


def _widened(limit: Limit, short: Shortfall, share: float) -> Limit:
    """What is allowed where the float model is short of its target: never less than before, never a half."""
    margin = min(limit.margin + share * short.proven, max(limit.margin, _MOST_MARGIN))
    return Limit(observed=min(limit.observed + share * short.seen, margin), margin=margin)


def _more_images(bound: Bound, margin: float, images: int) -> int | None:
    """How many further images bring the bound down to the margin; the bound falls as their number rises."""
    low, high = 1.0, 2.0
    while bound(times=high) > margin:
        low, high = high, 2 * high
        if high > _MOST_TIMES:
            return None
    while (high - low) * images > 0.5:
        middle = (low + high) / 2
        low, high = (middle, high) if bound(times=middle) > margin else (low, middle)
    return max(1, int(np.ceil((high - 1) * images)))


def _shares_right(pair: PairedScores) -> tuple[float, float]:
    """Share of images of one class that either model decides rightly."""
    table = pair.positives_table if pair.reference.positives else pair.negatives_table
    return (table.both + table.reference_only) / sum(table), (table.both + table.candidate_only) / sum(table)


def _counted(pair: PairedScores) -> str:
    what = "positives" if pair.reference.positives else "negatives"
    return f"{len(pair)} {what} of {len(set(pair.reference.patients))} patients"


def _with(confidence: float) -> str:
    return f"with {100 * confidence:g} % confidence"
