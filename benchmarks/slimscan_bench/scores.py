"""What models answered, image by image, and every statistic of it: one model (`Scores`) or two (`PairedScores`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.bootstrap import Interval, clustered_interval
from slimscan_bench.intervals import (
    PairedTable,
    auroc,
    clopper_pearson,
    delong_difference,
    delong_interval,
    delong_test,
    mcnemar_exact,
    newcombe_paired,
)
from slimscan_edge.errors import InputError


class Confusion(NamedTuple):
    """Counts of right and wrong decisions at a threshold."""

    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """An image on which two models decide differently.

    Attributes:
        image: Path of the image.
        patient: Whose it is.
        group: Subgroup of the image.
        positive: What it truly is.
        reference_positive: What the reference decided; the candidate decided the other way.
        reference_logit: Score of the reference.
        candidate_logit: Score of the candidate.
    """

    image: str
    patient: str
    group: str
    positive: bool
    reference_positive: bool
    reference_logit: float
    candidate_logit: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """One model's score of each image. A case is positive from the threshold on: `logit >= logit_threshold`.

    Attributes:
        images: Path of each image, no two the same.
        patients: Whose image it is.
        positive: bool `[n]`, the true label.
        groups: Subgroup of each image.
        logits: float64 `[n]`, finite, higher for positive.
    """

    images: tuple[str, ...]
    patients: tuple[str, ...]
    positive: NDArray[np.bool_]
    groups: tuple[str, ...]
    logits: NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.images)
        if not count:
            raise InputError("there are no scores; expected at least one image")
        for name in ("patients", "positive", "groups", "logits"):
            if len(getattr(self, name)) != count:
                raise InputError(f"got {count} images and {len(getattr(self, name))} {name}, expected one an image")
        if self.positive.dtype != np.bool_ or self.logits.dtype != np.float64:
            raise InputError(
                f"positive is {self.positive.dtype} and logits are {self.logits.dtype}, expected bool and float64"
            )
        if len(set(self.images)) != count:
            raise InputError(f"{count - len(set(self.images))} images are scored twice; score each image once")
        if not np.isfinite(self.logits).all():
            broken = self.images[int(np.flatnonzero(~np.isfinite(self.logits))[0])]
            raise InputError(f"the score of {broken} is not a finite number; the model is broken")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def positives(self) -> int:
        """Number of positive images."""
        return int(self.positive.sum())

    @property
    def negatives(self) -> int:
        """Number of negative images."""
        return len(self) - self.positives

    @property
    def auroc(self) -> float:
        """Area under the ROC curve; `InputError` when one class is absent."""
        return auroc(self.positive, self.logits)

    def auroc_interval(self, confidence: float = 0.95) -> Interval:
        """DeLong's interval of the AUROC, images taken as independent."""
        return delong_interval(self.positive, self.logits, confidence)

    def decisions(self, logit_threshold: float) -> NDArray[np.bool_]:
        """Bool `[n]`: decided positive."""
        decided: NDArray[np.bool_] = self.logits >= logit_threshold
        return decided

    def confusion(self, logit_threshold: float) -> Confusion:
        """Right and wrong decisions at a threshold."""
        hits = int((self.decisions(logit_threshold) & self.positive).sum())
        alarms = int((self.decisions(logit_threshold) & ~self.positive).sum())
        return Confusion(
            true_positives=hits,
            false_negatives=self.positives - hits,
            true_negatives=self.negatives - alarms,
            false_positives=alarms,
        )

    def sensitivity(self, logit_threshold: float) -> float:
        """Share of positives decided positive; `InputError` without a positive."""
        counts = self.confusion(logit_threshold)
        return _share(counts.true_positives, self.positives, "positive")

    def specificity(self, logit_threshold: float) -> float:
        """Share of negatives decided negative; `InputError` without a negative."""
        counts = self.confusion(logit_threshold)
        return _share(counts.true_negatives, self.negatives, "negative")

    def sensitivity_interval(self, logit_threshold: float, confidence: float = 0.95) -> Interval:
        """Clopper-Pearson interval of the sensitivity, images taken as independent."""
        return clopper_pearson(self.confusion(logit_threshold).true_positives, self.positives, confidence)

    def specificity_interval(self, logit_threshold: float, confidence: float = 0.95) -> Interval:
        """Clopper-Pearson interval of the specificity, images taken as independent."""
        return clopper_pearson(self.confusion(logit_threshold).true_negatives, self.negatives, confidence)

    def select(self, keep: NDArray[np.bool_]) -> "Scores":
        """The scores of some images, in the same order.

        Args:
            keep: bool `[n]`.
        """
        return Scores(
            images=_pick(self.images, keep),
            patients=_pick(self.patients, keep),
            positive=self.positive[keep],
            groups=_pick(self.groups, keep),
            logits=self.logits[keep],
        )

    def by_group(self) -> dict[str, "Scores"]:
        """The scores of each subgroup, in the order of their names."""
        return {group: self.select(_members(self.groups, group)) for group in sorted(set(self.groups))}

    def clustered_interval(
        self,
        statistic: Callable[[NDArray[np.bool_], NDArray[np.float64]], float],
        *,
        seed: int,
        resamples: int = 2000,
        confidence: float = 0.95,
    ) -> Interval:
        """Bootstrap interval with patients resampled, which images of the same patient call for.

        Args:
            statistic: Takes `positive` and `logits` of a resample (`slimscan_bench.intervals.auroc`, say); NaN or
                `InputError` where it is undefined.
            seed: Of the random draws.
            resamples: How many.
            confidence: 0 to 1.
        """

        def on(drawn: NDArray[np.intp]) -> float:
            return statistic(self.positive[drawn], self.logits[drawn])

        return clustered_interval(
            _nan_where_undefined(on), self.patients, seed=seed, resamples=resamples, confidence=confidence
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairedScores:
    """Two models on the same images, each at its own threshold. Differences are candidate less reference.

    Attributes:
        reference: Scores of the model that is trusted (the float model, the bundle in use).
        candidate: Scores of the model that would replace it.
        reference_threshold: As a logit of the reference.
        candidate_threshold: As a logit of the candidate.
    """

    reference: Scores
    candidate: Scores
    reference_threshold: float
    candidate_threshold: float

    def __post_init__(self) -> None:
        reference, candidate = self.reference, self.candidate
        if reference.images != candidate.images:
            raise InputError(_why_not_paired(reference.images, candidate.images))
        same = reference.patients == candidate.patients and reference.groups == candidate.groups
        if not (same and np.array_equal(reference.positive, candidate.positive)):
            raise InputError("the two models' images have different labels, patients or groups; score one data set")
        if not np.isfinite([self.reference_threshold, self.candidate_threshold]).all():
            raise InputError(
                f"thresholds are {self.reference_threshold} and {self.candidate_threshold}, expected finite logits"
            )

    def __len__(self) -> int:
        return len(self.reference)

    @property
    def new_misses(self) -> tuple[str, ...]:
        """Positive images that the reference finds and the candidate misses."""
        return _pick(self.reference.images, self._lost & self.reference.positive)

    @property
    def new_false_alarms(self) -> tuple[str, ...]:
        """Negative images that the reference clears and the candidate calls positive."""
        return _pick(self.reference.images, self._lost & ~self.reference.positive)

    @property
    def positive_patients(self) -> tuple[str, ...]:
        """Patients with a positive image, each once, sorted."""
        return tuple(sorted(set(_pick(self.reference.patients, self.reference.positive))))

    @property
    def flips(self) -> tuple[Flip, ...]:
        """Every image on which the two decide differently, for the better or the worse, in the images' order."""
        one, other = self.reference, self.candidate
        decided = one.decisions(self.reference_threshold)
        return tuple(
            Flip(
                image=one.images[i],
                patient=one.patients[i],
                group=one.groups[i],
                positive=bool(one.positive[i]),
                reference_positive=bool(decided[i]),
                reference_logit=float(one.logits[i]),
                candidate_logit=float(other.logits[i]),
            )
            for i in np.flatnonzero(decided != other.decisions(self.candidate_threshold))
        )

    @property
    def changes(self) -> NDArray[np.float64]:
        """Of each image: 1 where the candidate alone decides rightly, -1 where the reference alone does, else 0."""
        reference, candidate = self._right
        return candidate.astype(np.float64) - reference.astype(np.float64)

    @property
    def positives_table(self) -> PairedTable:
        """Who found which positives."""
        return self._table(self.reference.positive)

    @property
    def negatives_table(self) -> PairedTable:
        """Who cleared which negatives."""
        return self._table(~self.reference.positive)

    @property
    def auroc_difference(self) -> float:
        """The candidate's AUROC less the reference's."""
        return self.candidate.auroc - self.reference.auroc

    @property
    def sensitivity_difference(self) -> float:
        """The candidate's sensitivity less the reference's, each at its threshold."""
        return self.positives_table.difference

    @property
    def specificity_difference(self) -> float:
        """The candidate's specificity less the reference's, each at its threshold."""
        return self.negatives_table.difference

    @property
    def auroc_p_value(self) -> float:
        """DeLong's paired test of equal AUROC, two-sided."""
        return delong_test(self.reference.positive, self.reference.logits, self.candidate.logits)

    @property
    def sensitivity_p_value(self) -> float:
        """Exact McNemar test of equal sensitivity, two-sided."""
        return mcnemar_exact(self.positives_table)

    @property
    def specificity_p_value(self) -> float:
        """Exact McNemar test of equal specificity, two-sided."""
        return mcnemar_exact(self.negatives_table)

    def auroc_difference_interval(self, confidence: float = 0.95, *, clustered: bool = False) -> Interval:
        """DeLong's interval of `auroc_difference`, images taken as independent or, `clustered`, alike by patient."""
        return delong_difference(
            self.reference.positive,
            self.reference.logits,
            self.candidate.logits,
            confidence,
            self.reference.patients if clustered else None,
        )

    def sensitivity_difference_interval(self, confidence: float = 0.95) -> Interval:
        """Newcombe's paired interval of `sensitivity_difference`, images taken as independent."""
        return newcombe_paired(self.positives_table, confidence)

    def specificity_difference_interval(self, confidence: float = 0.95) -> Interval:
        """Newcombe's paired interval of `specificity_difference`, images taken as independent."""
        return newcombe_paired(self.negatives_table, confidence)

    def by_group(self) -> dict[str, "PairedScores"]:
        """The pair on each subgroup, in the order of their names."""
        groups = self.reference.groups
        return {group: self.select(_members(groups, group)) for group in sorted(set(groups))}

    def select(self, keep: NDArray[np.bool_]) -> "PairedScores":
        """The pair on some images, in the same order.

        Args:
            keep: bool `[n]`.
        """
        return PairedScores(
            reference=self.reference.select(keep),
            candidate=self.candidate.select(keep),
            reference_threshold=self.reference_threshold,
            candidate_threshold=self.candidate_threshold,
        )

    def clustered_interval(
        self,
        statistic: Callable[[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]], float],
        *,
        seed: int,
        resamples: int = 2000,
        confidence: float = 0.95,
    ) -> Interval:
        """Bootstrap interval with patients resampled, both models' scores of an image drawn together.

        Args:
            statistic: Takes `positive`, the reference's logits and the candidate's logits of a resample; NaN or
                `InputError` where it is undefined.
            seed: Of the random draws.
            resamples: How many.
            confidence: 0 to 1.
        """

        def on(drawn: NDArray[np.intp]) -> float:
            return statistic(self.reference.positive[drawn], self.reference.logits[drawn], self.candidate.logits[drawn])

        return clustered_interval(
            _nan_where_undefined(on), self.reference.patients, seed=seed, resamples=resamples, confidence=confidence
        )

    @property
    def _right(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        truth = self.reference.positive
        return (
            self.reference.decisions(self.reference_threshold) == truth,
            self.candidate.decisions(self.candidate_threshold) == truth,
        )

    @property
    def _lost(self) -> NDArray[np.bool_]:
        reference, candidate = self._right
        return reference & ~candidate

    def _table(self, among: NDArray[np.bool_]) -> PairedTable:
        reference, candidate = (right[among] for right in self._right)
        return PairedTable(
            both=int((reference & candidate).sum()),
            reference_only=int((reference & ~candidate).sum()),
            candidate_only=int((~reference & candidate).sum()),
            neither=int((~reference & ~candidate).sum()),
        )


def _share(count: int, total: int, which: str) -> float:
    if not total:
        raise InputError(f"there is no {which} image to count on; give images of both classes")
    return count / total


def _pick(values: tuple[str, ...], keep: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(values[i] for i in np.flatnonzero(keep))


def _members(groups: Sequence[str], group: str) -> NDArray[np.bool_]:
    return np.array([g == group for g in groups], dtype=np.bool_)


def _nan_where_undefined(statistic: Callable[[NDArray[np.intp]], float]) -> Callable[[NDArray[np.intp]], float]:
    def defined_or_nan(drawn: NDArray[np.intp]) -> float:
        try:
            return statistic(drawn)
        except InputError:
            return float("nan")

    return defined_or_nan


def _why_not_paired(reference: tuple[str, ...], candidate: tuple[str, ...]) -> str:
    if set(reference) == set(candidate):
        return "the two models scored the same images in different orders; score both in one order"
    only = sorted(set(reference) ^ set(candidate))
    return (
        f"the two models scored different images: {len(reference)} and {len(candidate)}, "
        f"{len(only)} of them by one model alone ({only[0]}, for one); score both on the same images"
    )
