"""Seeded batches for training: the same seed gives the same images in the same order, also after a resume."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.preprocess import PreprocessSpec
from slimscan_train.augment import UNVARIED, AugmentConfig, augment, mixup_weights
from slimscan_train.model import normalise_pixels

Batch: TypeAlias = tuple[Any, Any, Any, Any]
"""Pixels float32 `[B, H, W, C]` as the network takes them, targets float32 `[B, K]`, weights float32 `[B]`, and a
teacher's evidence float32 `[B, h, w, K]` or None."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Images to train on.

    Attributes:
        pixels: uint8 `[N, H', W', C]`, read by `slimscan_train.augment.larger` of the spec.
        targets: float32 `[N, K]`, 0 to 1; NaN where an output has no target for an image.
        weights: float32 `[N]`, weight of each image in the loss, mean 1.
        spec: What the network sees of them.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    spec: PreprocessSpec

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which images are of the positive class, `[N]`."""
        return self.targets[:, 0] > 0.5

    def unvaried(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Some of the images as the network sees them unvaried, uint8 `[n, H, W, C]`."""
        seen = augment(self.pixels[indices], np.zeros(2, np.int32), UNVARIED, self.spec)
        pixels: NDArray[np.uint8] = np.rint(seen.numpy()).astype(np.uint8)
        return pixels


def class_weights(positive: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A weight an image such that both classes weigh the same and the mean is 1."""
    share = np.where(positive, positive.mean(), 1.0 - positive.mean())
    weights: NDArray[np.float32] = (0.5 / share).astype(np.float32)
    return weights


def epoch_order(positive: NDArray[np.bool_], batch: int, *, balanced: bool, seed: int, epoch: int) -> NDArray[np.int64]:
    """Which images an epoch shows, batch after batch: int64 `[steps, batch]`.

    Balanced batches hold both classes half and half: images of the smaller class come more than once, and some of
    the larger one have to wait for another epoch.
    """
    rng = np.random.default_rng((seed, epoch))
    count = len(positive)
    steps = max(1, count // batch)
    if not balanced:
        return rng.permutation(count)[: steps * batch].reshape(steps, -1)
    half = batch // 2
    columns = [_repeated(np.flatnonzero(of_class), steps * half, rng) for of_class in (positive, ~positive)]
    return np.concatenate([column.reshape(steps, half) for column in columns], axis=1)


def training_batches(
    data: TrainingSet, order: NDArray[np.int64], config: AugmentConfig, *, seed: int, epoch: int
) -> Iterator[Batch]:
    """Augmented batches of one epoch, prepared while the step before them runs."""
    import tensorflow as tf

    def one(indices: Any, step: Any) -> tuple[Any, Any, Any]:
        state = tf.stack([(seed * 100_003 + epoch) % 2**31, tf.cast(step, tf.int32)])
        # [B, H, W, C] and [B, K], gathered by NumPy: the cache may be a memory map
        raw, targets, weights = tf.numpy_function(
            lambda i: (data.pixels[i], data.targets[i], data.weights[i]), [indices], [tf.uint8, tf.float32, tf.float32]
        )
        raw.set_shape([order.shape[1], *data.pixels.shape[1:]])
        targets.set_shape([order.shape[1], data.targets.shape[1]])
        weights.set_shape([order.shape[1]])
        pixels = normalise_pixels(augment(raw, state, config, data.spec))
        if config.mixup:
            share = mixup_weights(order.shape[1], state, config.mixup)
            pixels = share[:, None, None, None] * pixels + (1 - share)[:, None, None, None] * pixels[::-1]
            targets = share[:, None] * targets + (1 - share)[:, None] * targets[::-1]
        return pixels, targets, weights

    steps = tf.data.Dataset.from_tensor_slices((order, np.arange(len(order))))
    for pixels, targets, weights in steps.map(one, num_parallel_calls=2, deterministic=True).prefetch(2):
        yield pixels, targets, weights, None


def _repeated(indices: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rounds = [rng.permutation(indices) for _ in range(-(-count // len(indices)))]
    return np.concatenate(rounds)[:count]
