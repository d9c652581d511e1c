import math

import numpy as np
import pytest

from slimscan_train.metrics import cross_entropy, figures, fit_calibration

#                    negatives            | positives
LOGITS = np.array([-4.0, -3.0, -1.0, 2.0, -2.0, 0.0, 1.0, 3.0, 5.0])
POSITIVE = np.array([False] * 4 + [True] * 5)


def calibrated(temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits in 81 bins of 10,000 images with as many positives as they say, times a temperature."""
    logits, positive = [], []
    for logit in np.linspace(-4, 4, 81):
        positives = round(10_000 / (1 + math.exp(-logit)))
        logits.append(np.full(10_000, logit * temperature))
        positive.append(np.arange(10_000) < positives)
    return np.concatenate(logits), np.concatenate(positive)


def test_figures_counted_by_hand() -> None:
    found = figures(LOGITS, POSITIVE, 1.0)
    assert found.sensitivity == pytest.approx(3 / 5)  # 1, 3 and 5
    assert found.specificity == pytest.approx(3 / 4)  # all but 2
    # Pairs in the right order: -2 beats two negatives, 0 and 1 three each, 3 and 5 all four.
    assert found.auroc == pytest.approx((2 + 3 + 3 + 4 + 4) / 20)
    assert found.loss == pytest.approx(
        np.mean([math.log1p(math.exp(-z if sick else z)) for z, sick in zip(LOGITS, POSITIVE, strict=True)])
    )


def test_cross_entropy_of_a_coin_and_of_certainty() -> None:
    assert cross_entropy(np.zeros(2), np.array([True, False])) == pytest.approx(math.log(2))
    assert cross_entropy(np.array([2.0]), np.array([True])) == pytest.approx(math.log1p(math.exp(-2)))


def test_cross_entropy_does_not_overflow() -> None:
    with np.errstate(over="raise", invalid="raise"):
        assert cross_entropy(np.array([1e4, -1e4]), np.array([True, False])) == 0.0
        assert cross_entropy(np.array([1e4, -1e4]), np.array([False, True])) == 1e4


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("bias", [-1.5, 0.0, 0.7])
def test_a_known_calibration_is_found(temperature: float, bias: float) -> None:
    logits, positive = calibrated(temperature)
    assert fit_calibration(logits - bias, positive) == pytest.approx((temperature, bias), rel=5e-3, abs=5e-3)


def test_calibration_stays_in_its_bounds_when_classes_are_apart_or_swapped() -> None:
    logits, positive = np.repeat([1.0, -1.0], 50), np.repeat([True, False], 50)
    temperature, bias = fit_calibration(logits, positive)
    assert bias == pytest.approx(0.0, abs=1e-6)
    assert 1 / (1 + math.exp(-1 / temperature)) == pytest.approx(51 / 52, rel=1e-3)  # Platt's target, not certainty
    assert fit_calibration(-logits, positive)[0] == pytest.approx(20.0, rel=1e-3)
