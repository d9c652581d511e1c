"""The second question: which of two subtypes, given a positive case. Bacterial or viral, in the reference data.

The second logit is calibrated by the weights that make it, so that nothing beside the model has to carry the line.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_train.evaluation import Evaluation
from slimscan_train.intervals import Estimate, clustered_auroc, proportion
from slimscan_train.metrics import fit_calibration

FEWEST = 20
"""Images of either subtype below which a calibration is not tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtypeSummary:
    """How well a model tells the subtypes apart on one set of images.

    Attributes:
        split: Which patients.
        names: The negative group and both subtypes, in the order of `confusion`.
        images: How many.
        positives: Images that have a subtype.
        auroc: Of the first subtype against the second, among positives; None when one is absent.
        accuracy: Share of positives whose subtype is the likelier one.
        three_class_accuracy: Share of images whose class is the likeliest of the three.
        confusion: Images by truth (rows) and likeliest class (columns).
    """

    split: str
    names: tuple[str, str, str]
    images: int
    positives: int
    auroc: Estimate | None
    accuracy: Estimate
    three_class_accuracy: Estimate
    confusion: tuple[tuple[int, int, int], ...]


def summarise_subtypes(found: Evaluation, subtypes: tuple[str, str]) -> SubtypeSummary | None:
    """Figures of the second logit; None when there is none, or nothing positive to tell apart.

    The likeliest class weighs `1 - p`, `p q` and `p (1 - q)`, p being the calibrated probability of the positive label
    and q that of the first subtype given it. The threshold plays no part: it is chosen for sensitivity, not accuracy.

    Args:
        found: One set of images.
        subtypes: The first, which the second logit is for, and the second.
    """
    from scipy.special import expit

    logits = np.array([row.subtype_logit for row in found.rows])
    positive = found.positive
    if not positive.any() or np.isnan(logits).any():
        return None
    is_first = np.array([row.group == subtypes[0] for row in found.rows])
    first, sick = expit(logits), expit(found.calibrated)
    truth = np.where(positive, np.where(is_first, 1, 2), 0)
    likeliest = np.stack([1 - sick, sick * first, sick * (1 - first)]).argmax(axis=0)
    negatives = [row.group for row, is_positive in zip(found.rows, positive, strict=True) if not is_positive]
    confusion = np.bincount(3 * truth + likeliest, minlength=9).reshape(3, 3)
    right = (first[positive] >= 0.5) == is_first[positive]
    patients = [row.patient for row, is_positive in zip(found.rows, positive, strict=True) if is_positive]
    accuracy = proportion(int(right.sum()), len(right))
    three_class = proportion(int(np.trace(confusion)), len(truth))
    assert accuracy
    assert three_class
    return SubtypeSummary(
        split=found.split,
        names=(negatives[0] if negatives else "negative", *subtypes),
        images=len(truth),
        positives=len(right),
        auroc=clustered_auroc(is_first[positive], logits[positive], patients),
        accuracy=accuracy,
        three_class_accuracy=three_class,
        confusion=tuple((int(a), int(b), int(c)) for a, b, c in confusion),
    )


def calibrate_subtypes(model: Any, logits: NDArray[np.float64], is_first: NDArray[np.bool_]) -> None:
    """Scale and shift the second logit, in place, so that its sigmoid tells how often the first subtype it is.

    Args:
        model: A Keras model whose layer `evidence` makes two maps.
        logits: Its second logit of positive validation images `[N]`.
        is_first: Which of them are of the first subtype `[N]`; with fewer than `FEWEST` of either nothing is done.
    """
    if min(is_first.sum(), (~is_first).sum()) < FEWEST:
        return
    temperature, bias = fit_calibration(logits, is_first)
    kernel, offset = model.get_layer("evidence").get_weights()  # [1, 1, C, 2] and [2]
    kernel[..., 1] /= temperature
    offset[1] = (offset[1] + bias) / temperature
    model.get_layer("evidence").set_weights([kernel, offset])
