import math

import numpy as np
import pytest

from slimscan_edge.operating_point import OperatingPoint
from slimscan_train.evaluation import Evaluation, evaluate_rows
from slimscan_train.fit import predict_logits
from slimscan_train.metrics import fit_calibration
from slimscan_train.model import ModelConfig, build_model
from slimscan_train.run import ScoreRow
from slimscan_train.subtypes import calibrate_subtypes, summarise_subtypes

POINT = OperatingPoint(threshold=0.2, target_sensitivity=0.98, refer_low=0.2, refer_high=0.2, chosen_on="nothing")
SUBTYPES = ("bacteria", "virus")


def scored(*rows: tuple[str, float, float]) -> Evaluation:
    """One set of images: group, logit, subtype logit."""
    (found,) = evaluate_rows(
        [
            ScoreRow(
                image=f"{index}.png",
                split="val",
                shift="",
                patient=str(index),
                label="NORMAL" if group == "normal" else "PNEUMONIA",
                group=group,
                logit=logit,
                subtype_logit=subtype,
            )
            for index, (group, logit, subtype) in enumerate(rows)
        ],
        "PNEUMONIA",
        POINT,
    )
    return found


def test_the_figures_are_those_counted_by_hand() -> None:
    summary = summarise_subtypes(
        scored(
            ("normal", -3.0, 9.0),
            ("normal", -0.5, 0.0),  # p = 0.38: above the threshold, but the likeliest class is normal
            ("normal", 1.0, 0.0),  # p = 0.73, halved between two subtypes it is 0.37: bacteria, by the order
            ("bacteria", 3.0, 2.0),
            ("bacteria", 3.0, -1.0),  # virus rather
            ("virus", 2.0, -2.0),
            ("virus", -2.0, -2.0),  # its subtype is right, but normal is likelier than either
        ),
        SUBTYPES,
    )
    assert summary
    assert summary.names == ("normal", "bacteria", "virus")
    assert (summary.images, summary.positives) == (7, 4)
    assert summary.confusion == ((2, 1, 0), (0, 1, 1), (1, 0, 1))
    assert summary.accuracy.value == pytest.approx(3 / 4)
    assert summary.three_class_accuracy.value == pytest.approx(4 / 7)
    assert summary.auroc
    assert summary.auroc.value == 1.0  # 2 and -1 against -2 and -2


def test_without_a_second_output_or_a_positive_there_is_nothing_to_tell() -> None:
    assert summarise_subtypes(scored(("normal", 0.0, 1.0)), SUBTYPES) is None
    assert summarise_subtypes(scored(("virus", 0.0, math.nan)), SUBTYPES) is None


def test_after_calibration_there_is_nothing_left_to_calibrate() -> None:
    model = build_model(ModelConfig(width=0.05, outputs=2), 32, 32)
    rng = np.random.default_rng(0)
    levels = rng.integers(1, 256, (400, 1, 1, 1)).astype(np.uint8)
    pixels = (rng.random((400, 32, 32, 1)) * levels).astype(np.uint8)
    kernel, offset = model.get_layer("evidence").get_weights()
    spread = predict_logits(model, pixels)[:, 1].std()
    model.get_layer("evidence").set_weights([kernel * 3 / spread, offset])  # logits that a trained network might give
    before = predict_logits(model, pixels)
    is_first = before[:, 1] + rng.logistic(1.0, 2.0, 400) > before[:, 1].mean()
    calibrate_subtypes(model, before[:, 1], is_first)
    after = predict_logits(model, pixels)
    assert after[:, 0] == pytest.approx(before[:, 0], abs=1e-6)
    assert fit_calibration(after[:, 1], is_first) == pytest.approx((1.0, 0.0), abs=0.02)
    assert np.corrcoef(before[:, 1], after[:, 1])[0, 1] == pytest.approx(1.0)


def test_of_too_few_images_no_calibration_is_made() -> None:
    model = build_model(ModelConfig(width=0.05, outputs=2), 32, 32)
    before = model.get_layer("evidence").get_weights()
    calibrate_subtypes(model, np.linspace(-1, 1, 39), np.arange(39) < 19)
    assert all((a == b).all() for a, b in zip(before, model.get_layer("evidence").get_weights(), strict=True))
