"""Does a probability of 0.8 come true eight times in ten? Bins of equal mass, and their expected calibration error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Images whose probabilities are next to each other.

    Attributes:
        images: How many.
        positives: How many of them are positive.
        probability: Mean of their probabilities, 0 to 1.
    """

    images: int
    positives: int
    probability: float

    @property
    def observed(self) -> float:
        """Share of positives, 0 to 1."""
        return self.positives / self.images


def reliability_bins(probabilities: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    """Sort images by probability and cut them into `BINS` parts of equal number, give or take one.

    Bins of equal mass rather than of equal width: a good classifier's probabilities crowd at 0 and 1, and would leave
    the middle to a few images (Nixon et al. 2019, arXiv:1904.01685).

    Args:
        probabilities: `[N]`, 0 to 1.
        positive: Labels `[N]`.

    Returns:
        The bins from low to high; fewer than `BINS` when there are fewer images.
    """
    order = np.argsort(probabilities, kind="stable")
    return tuple(
        ReliabilityBin(
            images=len(part), positives=int(positive[part].sum()), probability=float(probabilities[part].mean())
        )
        for part in np.array_split(order, BINS)
        if len(part)
    )


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean gap between probability and observed share, each bin weighted by its images (arXiv:1706.04599, eq. 3)."""
    total = sum(part.images for part in bins)
    return sum(part.images * abs(part.observed - part.probability) for part in bins) / total
