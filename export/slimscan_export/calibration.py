"""Which images the int8 ranges are measured on: training patients only, both classes alike, seeded."""

from dataclasses import dataclass

import numpy as np

from slimscan_edge.errors import InputError
from slimscan_train.dataset import LabelledImage
from slimscan_train.split import Split

FEWEST = 32
"""Fewer calibration images than this are refused: ranges would hang on single pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationConfig:
    """How many images calibrate, half of each class, and the seed of the draw."""

    images: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images < FEWEST:
            raise ValueError(f"calibration on {self.images} images, expected at least {FEWEST}")
        if self.seed < 0:
            raise ValueError(f"calibration seed is {self.seed}, expected 0 or more")


def draw_calibration(split: Split, config: CalibrationConfig) -> tuple[LabelledImage, ...]:
    """Draw training images, as many of each class, one a patient before any patient's second.

    Raises:
        InputError: The training split has too few images of a class.
    """
    rng = np.random.default_rng(config.seed)
    drawn: list[LabelledImage] = []
    for positive in (False, True):
        pool = [image for image in split.select("train") if split.is_positive(image) is positive]
        if len(pool) < FEWEST // 2:
            raise InputError(f"{len(pool)} training images of a class to calibrate on, expected {FEWEST // 2} or more")
        seen: dict[str, int] = {}
        ranked: list[tuple[int, int, LabelledImage]] = []
        for index in rng.permutation(len(pool)):
            turn = seen[pool[index].patient] = seen.get(pool[index].patient, -1) + 1
            ranked.append((turn, len(ranked), pool[index]))
        drawn += [image for _, _, image in sorted(ranked, key=lambda entry: entry[:2])[: config.images // 2]]
    return tuple(drawn)
