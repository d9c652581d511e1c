"""Fitting the guard: what training X-rays look like, as they are and under every named shift.

The training patients are halved. One half's X-rays give the mean, the spread and the components of the coarse view,
the other half's give the limits, so that no limit is as tight as pictures that were fitted on would make it. Both
halves are seen under the shifts as well: what another clinic's machine does to an X-ray is no reason to reject it.
"""

import binascii
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.classifier import Classifier
from slimscan_edge.guard import FITTED, Guard, GuardRecord, coarse_view
from slimscan_train.dataset import LabelledImage
from slimscan_train.run import Run
from slimscan_train.shifts import SHIFTS
from slimscan_train.training import VALIDATION

SEED = 0
MOST_IMAGES = 2400
"""Training X-rays drawn; beyond, the limits hardly move."""
LEAST_IMAGES = 1000
"""With fewer the limits would rest on a few X-rays of each shift, and the bundle carries no guard."""
COMPONENTS = 12
QUANTILE = 0.99
"""Share of the X-rays under any one shift that the limit of each rule by distance accepts."""
BY_DISTANCE = {"unlike": 0.0, "turned": 1.0, "negative": 1.0}
"""These rules, with what their limit is at least: no picture is told to lie otherwise if that would be farther off."""
SLACK = 0.1
"""By how much of itself a limit of the other rules lies beyond the most extreme training X-ray."""

Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """X-rays and the model's evidence for them: uint8 `[N, H, W, C]` and float32 `[N, h, w, K]`."""

    pixels: NDArray[np.uint8]
    evidence: NDArray[np.float32]

    def views(self) -> Array:
        """The coarse view of each, `[N, F]`."""
        pairs = zip(self.pixels, self.evidence, strict=True)
        return np.stack([coarse_view(pixels, evidence) for pixels, evidence in pairs])

    def measures(self, guard: Guard) -> dict[str, Array]:
        """Each fitted rule's measure of each, `[N]`."""
        rows = [guard.measure(pixels, evidence) for pixels, evidence in zip(self.pixels, self.evidence, strict=True)]
        return {rule: np.array([row[rule] for row in rows]) for rule in FITTED}

    def rejected(self, guard: Guard) -> float:
        """Share that a guard rejects, 0 to 1."""
        pairs = zip(self.pixels, self.evidence, strict=True)
        return sum(bool(guard.reject_pixels(pixels, evidence)) for pixels, evidence in pairs) / len(self.pixels)


def fit_guard(run: Run, classifier: Classifier) -> GuardRecord | None:
    """Fit a guard on a run's training X-rays; None if the run has fewer than `LEAST_IMAGES`.

    Args:
        run: The run that the model comes from.
        classifier: The int8 model, for its evidence.

    Raises:
        InputError: An image can no longer be read.
    """
    train = run.split.select("train")
    if len(train) < LEAST_IMAGES:
        return None
    rng = np.random.default_rng(SEED)
    drawn = [train[index] for index in rng.permutation(len(train))[:MOST_IMAGES]]
    fitting, limiting = _halves(drawn, rng)
    record = _fit_basis(np.concatenate([seen.views() for seen in _see_all(run, classifier, fitting)]))
    record = _fit_limits(record, _see_all(run, classifier, limiting))
    words = f"{len(drawn)} training images of {len({image.patient for image in drawn})} patients, seed {SEED}"
    held_out = {split: run.split.select(split) for split in VALIDATION}
    rejected = {
        split: _see(run, classifier, images, "").rejected(Guard(record)) for split, images in held_out.items() if images
    }
    return dataclasses.replace(record, fitted_on=words, rejected=rejected)


def guard_json(record: GuardRecord) -> bytes:
    """The bundle's member, without a needless byte: bundles are carried on small cards."""
    return (json.dumps(dataclasses.asdict(record), separators=(",", ":")) + "\n").encode()


def _halves(images: Sequence[LabelledImage], rng: np.random.Generator) -> tuple[list[LabelledImage], ...]:
    """Two halves that share no patient."""
    patients = sorted({image.patient for image in images})
    first = {patients[index] for index in rng.permutation(len(patients))[: len(patients) // 2]}
    return [image for image in images if image.patient in first], [
        image for image in images if image.patient not in first
    ]


def _see_all(run: Run, classifier: Classifier, images: Sequence[LabelledImage]) -> list[Seen]:
    """Images as they are, and each once more under one of the shifts."""
    parts = [(images[start :: len(SHIFTS)], shift) for start, shift in enumerate(SHIFTS)]
    return [_see(run, classifier, part, shift) for part, shift in [(images, ""), *parts] if part]


def _see(run: Run, classifier: Classifier, images: Sequence[LabelledImage], shift: str) -> Seen:
    pixels = run.pixels(images, shift)
    return Seen(pixels=pixels, evidence=np.stack([classifier.scores(one)[1] for one in pixels]))


def _fit_basis(views: Array) -> GuardRecord:
    """Mean, spread and components of views `[N, F]`, as integers; no limits yet."""
    mean, spread = views.mean(axis=0), views.std(axis=0) + 1e-3
    variances, directions = np.linalg.eigh(np.cov((views - mean) / spread, rowvar=False))
    table = np.stack([mean, 1 / spread, *directions[:, : -COMPONENTS - 1 : -1].T])
    scales = np.abs(table).max(axis=1) / 127
    steps = np.rint(table / scales[:, np.newaxis]).astype(np.int8)
    return GuardRecord(
        limits=dict.fromkeys(FITTED, 0.0),
        variances=tuple(_short(value) for value in variances[: -COMPONENTS - 1 : -1]),
        rest_variance=_short(variances[:-COMPONENTS].mean()),
        scales=tuple(_short(scale) for scale in scales),
        table=binascii.b2a_base64(steps.tobytes(), newline=False).decode(),
        fitted_on="",
        rejected={},
    )


def _fit_limits(record: GuardRecord, seen: Sequence[Seen]) -> GuardRecord:
    """The limits by X-rays that the basis was not fitted on, of each shift."""
    for rules in (("unlike",), FITTED):  # whether a picture may lie otherwise hangs on what `unlike` accepts
        measures = [one.measures(Guard(record)) for one in seen]
        limits = {rule: _short(_limit(rule, [of_shift[rule] for of_shift in measures])) for rule in rules}
        record = dataclasses.replace(record, limits={**record.limits, **limits})
    return record


def _limit(rule: str, measures: Sequence[Array]) -> float:
    if rule in BY_DISTANCE:
        return max(BY_DISTANCE[rule], *(float(np.quantile(of_shift, QUANTILE)) for of_shift in measures))
    largest = max(float(of_shift.max()) for of_shift in measures)
    return largest + SLACK * abs(largest)


def _short(number: float) -> float:
    """Five significant digits."""
    return float(f"{number:.5g}")
