"""What a run's scores say at its locked operating point: one row a split and named shift."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.operating_point import OperatingPoint
from slimscan_train.intervals import proportion
from slimscan_train.lungs.surroundings import SWAPPED, SWAPS
from slimscan_train.metrics import Figures, figures
from slimscan_train.run import Run, ScoreRow, read_scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """One model on one set of images at one operating point. Scores are stored, figures computed.

    Attributes:
        split: Which patients; `val_swap` for those of `val` in other surroundings.
        shift: Named image shift, "" for the images as they are.
        rows: The scores.
        positive: Labels `[N]`, in the order of `rows`.
        point: The operating point.
    """

    split: str
    shift: str
    rows: tuple[ScoreRow, ...]
    positive: NDArray[np.bool_]
    point: OperatingPoint

    @property
    def logits(self) -> NDArray[np.float64]:
        """Scores `[N]`."""
        return np.array([row.logit for row in self.rows])

    @property
    def calibrated(self) -> NDArray[np.float64]:
        """Scores `[N]` with the operating point's bias and temperature: the probability is their sigmoid."""
        return (self.logits + self.point.bias) / self.point.temperature

    @property
    def figures(self) -> Figures:
        """AUROC, sensitivity, specificity and loss."""
        return figures(self.logits, self.positive, self.point.logit_threshold)

    @property
    def name(self) -> str:
        """The split, and the shift in brackets."""
        return f"{self.split} ({self.shift})" if self.shift else self.split

    @property
    def draws(self) -> int:
        """How often each image is among the rows: as often as its surroundings were swapped, else once."""
        return len({row.shift for row in self.rows})

    @property
    def text(self) -> str:
        """One line: who, how many, and the figures with exact 95 % intervals."""
        found, positives = self.figures, int(self.positive.sum()) // self.draws
        patients, images = len({row.patient for row in self.rows}), len(self.rows) // self.draws
        return (
            f"{self.name}: AUROC {found.auroc:.4f}, "
            f"sensitivity {_with_interval(found.sensitivity, positives)}, "
            f"specificity {_with_interval(found.specificity, images - positives)} "
            f"({images} images of {patients} patients, threshold {self.point.threshold:.3f})"
        )


def evaluate(run: Run) -> tuple[Evaluation, ...]:
    """Every split and named shift in a run's `scores.csv`, at the run's operating point.

    Raises:
        InputError: The scores cannot be read.
    """
    return evaluate_rows(read_scores(run.folder / "scores.csv"), run.split.labels[1], run.operating_point)


def evaluate_rows(rows: Iterable[ScoreRow], positive_label: str, point: OperatingPoint) -> tuple[Evaluation, ...]:
    """Group score rows by split and shift, in the order of their first row.

    All swaps of a split are one set (`slimscan_train.lungs.surroundings.SWAPPED`), and come first.
    """
    groups: dict[tuple[str, str], list[ScoreRow]] = {}
    for row in sorted(rows, key=lambda row: row.shift not in SWAPS):
        name = (SWAPPED[row.split], "") if row.shift in SWAPS else (row.split, row.shift)
        groups.setdefault(name, []).append(row)
    return tuple(
        Evaluation(
            split=split,
            shift=shift,
            rows=tuple(members),
            positive=np.array([row.label == positive_label for row in members]),
            point=point,
        )
        for (split, shift), members in groups.items()
    )


def mean_and_spread(runs: Sequence[Run]) -> list[str]:
    """One line a split and named shift: mean and standard deviation over runs, each at its own threshold."""
    by_name: dict[str, list[Figures]] = {}
    for run in runs:
        for evaluation in evaluate(run):
            by_name.setdefault(evaluation.name, []).append(evaluation.figures)
    return [
        f"{name}: AUROC {_spread(one.auroc for one in found)}, "
        f"sensitivity {_spread(one.sensitivity for one in found)}, "
        f"specificity {_spread(one.specificity for one in found)} ({len(found)} runs)"
        for name, found in by_name.items()
    ]


def _spread(values: Iterable[float]) -> str:
    found = np.array(list(values))
    return f"{found.mean():.4f} ± {found.std(ddof=1) if len(found) > 1 else 0.0:.4f}"


def _with_interval(share: float, count: int) -> str:
    """A proportion with its exact 95 % interval; of nothing there is none."""
    found = proportion(round(share * count), count) if count else None
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})" if found else "none to count"
