from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from slimscan_edge.preprocess import PreprocessSpec
from slimscan_train.augment import UNVARIED, AugmentConfig
from slimscan_train.batches import TrainingSet, class_weights, epoch_order, training_batches
from slimscan_train.model import PIXEL_CENTRE, PIXEL_SCALE

SPEC = PreprocessSpec(height=8, width=8)
POSITIVE = np.arange(100) % 4 == 0  # 25 positive, 75 negative


def small_set(outputs: int = 1) -> TrainingSet:
    """Twelve flat pictures of grey 10 times their index, every third one positive."""
    pixels = np.full((12, 8, 8, 1), 10, np.uint8) * np.arange(12, dtype=np.uint8)[:, None, None, None]
    positive = np.arange(12) % 3 == 0
    columns = [positive.astype(np.float32), np.where(positive, 1.0, np.nan).astype(np.float32)]
    weights = np.linspace(0.5, 1.5, 12, dtype=np.float32)
    return TrainingSet(pixels=pixels, targets=np.stack(columns[:outputs], axis=1), weights=weights, spec=SPEC)


@pytest.mark.parametrize("balanced", [True, False])
def test_the_order_depends_on_seed_and_epoch_only(balanced: bool) -> None:
    def order(seed: int, epoch: int) -> np.ndarray:
        return epoch_order(POSITIVE, 8, balanced=balanced, seed=seed, epoch=epoch)

    first = order(1, 2)
    np.random.default_rng(99).random(10)
    np.testing.assert_array_equal(first, order(1, 2))
    assert not np.array_equal(first, order(1, 3))
    assert not np.array_equal(first, order(2, 2))


def test_plain_batches_show_each_image_at_most_once() -> None:
    order = epoch_order(POSITIVE, 8, balanced=False, seed=0, epoch=0)
    assert order.shape == (12, 8)
    assert len(set(order.ravel())) == 96


@pytest.mark.parametrize("positive", [POSITIVE, ~POSITIVE], ids=["fewer positive", "fewer negative"])
def test_balanced_batches_are_half_and_half(positive: np.ndarray) -> None:
    order = epoch_order(positive, 8, balanced=True, seed=0, epoch=0)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(positive[order].sum(axis=1), 4)


def test_balanced_batches_show_images_of_a_class_equally_often() -> None:
    """The larger class at most once an epoch, the smaller one in whole rounds."""
    order = epoch_order(POSITIVE, 8, balanced=True, seed=0, epoch=0)
    shown = np.bincount(order.ravel(), minlength=len(POSITIVE))
    assert np.ptp(shown[POSITIVE]) <= 1
    assert shown[POSITIVE].min() >= 1
    assert shown[~POSITIVE].max() == 1


def test_balanced_batches_show_every_image_over_a_few_epochs() -> None:
    orders = [epoch_order(POSITIVE, 8, balanced=True, seed=0, epoch=epoch) for epoch in range(12)]
    assert set(np.concatenate(orders).ravel()) == set(range(100))


def test_images_come_as_often_as_is_expected_of_them() -> None:
    frequencies = np.where(np.arange(100) < 20, 9.0, 1.0)  # 5 of 25 positive, 15 of 75 negative
    orders = [epoch_order(POSITIVE, 8, balanced=True, seed=0, epoch=e, frequencies=frequencies) for e in range(40)]
    for order in orders:
        assert order.shape == (12, 8)
        np.testing.assert_array_equal(POSITIVE[order].sum(axis=1), 4)
    shown = np.array([np.bincount(order.ravel(), minlength=100) for order in orders])
    for of_class in (POSITIVE, ~POSITIVE):
        expected = np.where(of_class, frequencies, 0.0) * 48 / frequencies[of_class].sum()
        assert (np.abs(shown - expected)[:, of_class] < 1).all()
        np.testing.assert_allclose(shown.mean(axis=0)[of_class], expected[of_class], atol=0.35)
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(
        orders[3], epoch_order(POSITIVE, 8, balanced=True, seed=0, epoch=3, frequencies=frequencies)
    )


def test_a_set_smaller_than_a_batch_still_makes_a_step() -> None:
    few = np.array([True, False, False])
    assert epoch_order(few, 32, balanced=True, seed=0, epoch=0).shape == (1, 32)
    assert epoch_order(few, 32, balanced=False, seed=0, epoch=0).shape == (1, 3)


def test_class_weights_make_both_classes_weigh_the_same() -> None:
    weights = class_weights(POSITIVE)
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(1.0)
    assert weights[POSITIVE].sum() == pytest.approx(weights[~POSITIVE].sum())


def test_batches_hold_the_images_of_the_order_as_the_network_takes_them() -> None:
    data = small_set()
    order = np.array([[3, 1, 4], [1, 5, 9]])
    batches = list(training_batches(data, order, UNVARIED, seed=0, epoch=0))
    assert len(batches) == 2
    for indices, (pixels, targets, weights, taught) in zip(order, batches, strict=True):
        assert taught is None
        expected = (data.pixels[indices].astype(np.float32) - PIXEL_CENTRE) / PIXEL_SCALE
        np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-4)
        np.testing.assert_array_equal(targets.numpy(), data.targets[indices])
        np.testing.assert_array_equal(weights.numpy(), data.weights[indices])


@pytest.mark.parametrize("seed", [0, 2**31, 2**40])
def test_the_same_seed_and_epoch_give_the_same_batches(seed: int) -> None:
    data, order = small_set(), np.arange(12).reshape(2, 6)
    config = AugmentConfig(noise=0.1, mixup=0.5)

    def shown(seed: int, epoch: int) -> np.ndarray:
        return np.stack([batch[0].numpy() for batch in training_batches(data, order, config, seed=seed, epoch=epoch)])

    first = shown(seed, 1)
    np.testing.assert_array_equal(first, shown(seed, 1))
    assert not np.allclose(first, shown(seed, 2))
    assert not np.allclose(first, shown(seed + 1, 1))


def test_mixup_mixes_pixels_and_targets_by_the_same_share_and_unknown_targets_stay_unknown() -> None:
    data, order = small_set(outputs=2), np.array([[0, 1, 2, 4, 5, 11]])
    mixed = replace(UNVARIED, mixup=1.0)
    ((pixels, targets, _, _),) = training_batches(data, order, mixed, seed=3, epoch=0)
    grey = pixels.numpy()[:, 0, 0, 0] * PIXEL_SCALE + PIXEL_CENTRE
    own = order[0] * 10.0
    share = (grey - own[::-1]) / (own - own[::-1])
    assert ((share >= 0.5 - 1e-4) & (share <= 1 + 1e-4)).all()
    assert share[0] == pytest.approx(targets.numpy()[0, 0], abs=1e-4)  # the one positive, with the negative 11
    assert Counter(np.isnan(targets.numpy()[:, 1])) == {True: 6}  # each pair holds a negative
