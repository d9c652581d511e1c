import numpy as np
import pytest

from slimscan_edge.operating_point import OperatingPoint
from slimscan_train.config import TrainConfig, config_from
from slimscan_train.evaluation import evaluate_rows
from slimscan_train.lungs.surroundings import SWAPS
from slimscan_train.run import ScoreRow
from slimscan_train.training import operating_point

POINT = OperatingPoint(target_sensitivity=0.98, refer_low=0.5, refer_high=0.5, chosen_on="nothing")
ASKED: TrainConfig = config_from({"operate": {"target_sensitivity": 1.0, "least_specificity": 0.5}}, where="test")


def rows(split: str, shift: str, logits: list[float], ill: list[bool]) -> list[ScoreRow]:
    return [
        ScoreRow(
            image=f"{split}-{number}",
            split=split,
            shift=shift,
            patient=f"{split}-{number}",
            label="PNEUMONIA" if positive else "NORMAL",
            group="",
            logit=logit,
        )
        for number, (logit, positive) in enumerate(zip(logits, ill, strict=True))
    ]


def test_all_swaps_of_a_split_are_one_set_and_come_first() -> None:
    ill = [False, False, True, True]
    scored = rows("val", "", [-2, -1, 1, 2], ill) + rows("val", "blur", [-2, -1, 1, 2], ill)
    for number, swap in enumerate(SWAPS):
        scored += rows("val", swap, [-2, number - 0.5, 1, 2], ill) + rows("val_shift", swap, [-2, -1, 1, 2], ill)
    found = {evaluation.name: evaluation for evaluation in evaluate_rows(scored, "PNEUMONIA", POINT)}
    assert list(found) == ["val_swap", "val_shift_swap", "val", "val (blur)"]
    assert found["val"].draws == found["val (blur)"].draws == 1
    pooled = found["val_swap"]
    assert (pooled.draws, len(pooled.rows)) == (3, 12)
    assert pooled.figures.specificity == pytest.approx(
        4 / 6
    )  # of two healthy images in three draws, two are called ill
    assert pooled.figures.sensitivity == 1.0
    assert "(4 images of 4 patients" in pooled.text


def test_the_operating_point_is_calibrated_and_bounded_on_other_surroundings() -> None:
    """On `val` as it is the classes lie apart; in other surroundings healthy images score higher."""
    rng = np.random.default_rng(0)
    ill = [False] * 50 + [True] * 50
    plain = rows("val", "", [*rng.normal(-3, 1, 50), *rng.normal(3, 1, 50)], ill)
    swapped = [row for swap in SWAPS for row in rows("val", swap, [*rng.normal(-1, 1, 50), *rng.normal(0, 1, 50)], ill)]
    alone = operating_point(plain, ASKED, "PNEUMONIA")
    both = operating_point(plain + swapped, ASKED, "PNEUMONIA")
    healthy = np.array([row.logit for row in swapped if row.label == "NORMAL"])
    # Full sensitivity in other surroundings would clear hardly any: the least specificity binds there, not on `val`.
    assert np.mean(healthy < both.logit_threshold) == pytest.approx(0.5, abs=0.01)
    assert np.mean(healthy < alone.logit_threshold) != pytest.approx(0.5, abs=0.05)
    assert both.temperature > alone.temperature
    assert both.chosen_on.startswith("val, val_swap and 0 named image shifts: 100 images of 100 patients")


def test_without_swaps_val_comes_first_as_ever() -> None:
    ill = [False, False, True, True]
    scored = rows("val_shift", "", [-1, 0, 0, 1], ill) + rows("val", "", [-2, -1, 1, 2], ill)
    point = operating_point(scored, ASKED, "PNEUMONIA")
    assert point.chosen_on.startswith("val, val_shift and 0 named image shifts")
    assert -1 < point.logit_threshold <= 0
