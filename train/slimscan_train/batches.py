"""Seeded batches for training: the same seed gives the same images in the same order, also after a resume."""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.preprocess import PreprocessSpec
from slimscan_train.augment import UNVARIED, AugmentConfig, augment, mixup_weights
from slimscan_train.lungs.markers import mark
from slimscan_train.model import normalise_pixels

Batch: TypeAlias = tuple[Any, Any, Any, Any]
"""Pixels float32 `[B, H, W, C]` as the network takes them, targets float32 `[B, K]`, weights float32 `[B]`, and a
teacher's evidence float32 `[B, h, w, K]` or None."""

_AHEAD = 2
"""Batches that are prepared at once, and wait."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Images to train on.

    Attributes:
        pixels: uint8 `[N, H', W', C]`, read by `slimscan_train.augment.larger` of the spec.
        targets: float32 `[N, K]`, 0 to 1; NaN where an output has no target for an image.
        weights: float32 `[N]`, weight of each image in the loss, mean 1.
        spec: What the network sees of them.
        frequencies: float64 `[N]`, above 0, how often an image is drawn against others of its class in balanced
            batches; None for each as often.
        lungs: float32 `[N, 6]`, from `slimscan_train.lungs.surroundings.measure_lungs`; None when unknown.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    spec: PreprocessSpec
    frequencies: NDArray[np.float64] | None = None
    lungs: NDArray[np.float32] | None = None

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which images are of the positive class, `[N]`."""
        return self.targets[:, 0] > 0.5

    def unvaried(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Some of the images as the network sees them unvaried, uint8 `[n, H, W, C]`."""
        seen = augment(self.pixels[indices], self.positive[indices], np.zeros(2, np.int32), UNVARIED, self.spec)
        pixels: NDArray[np.uint8] = np.rint(seen.numpy()).astype(np.uint8)
        return pixels


def class_weights(positive: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A weight an image such that both classes weigh the same and the mean is 1."""
    share = np.where(positive, positive.mean(), 1.0 - positive.mean())
    weights: NDArray[np.float32] = (0.5 / share).astype(np.float32)
    return weights


def epoch_order(
    positive: NDArray[np.bool_],
    batch: int,
    *,
    balanced: bool,
    seed: int,
    epoch: int,
    frequencies: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Which images an epoch shows, batch after batch: int64 `[steps, batch]`.

    Balanced batches hold both classes half and half: images of the smaller class come more than once, and some of
    the larger one have to wait for another epoch. With `frequencies` (as of a `TrainingSet`) an image comes as often
    as is expected of it, to the next whole number below or above.
    """
    rng = np.random.default_rng((seed, epoch))
    count = len(positive)
    steps = max(1, count // batch)
    if not balanced:
        return rng.permutation(count)[: steps * batch].reshape(steps, -1)
    half = batch // 2
    classes = [np.flatnonzero(of_class) for of_class in (positive, ~positive)]
    if frequencies is None:
        columns = [_repeated(indices, steps * half, rng) for indices in classes]
    else:
        columns = [_drawn(indices, frequencies[indices], steps * half, rng) for indices in classes]
    return np.concatenate([column.reshape(steps, half) for column in columns], axis=1)


def training_batches(
    data: TrainingSet, order: NDArray[np.int64], config: AugmentConfig, *, seed: int, epoch: int
) -> Iterator[Batch]:
    """Augmented batches of one epoch, prepared while the step before them runs.

    By threads and one graph for all epochs: tf.data would trace and rewrite the graph in each.
    """
    import tensorflow as tf

    varied = _varied(config, data.spec)

    def prepared(step: int) -> Batch:
        chosen = order[step]
        state = tf.constant([(seed * 100_003 + epoch) % 2**31, step])
        lungs = None if data.lungs is None else tf.constant(data.lungs[chosen])
        raw = data.pixels[chosen]
        if config.marker:
            mark(raw, config.marker, np.random.default_rng((seed, epoch, step)))
        pixels, targets = varied(tf.constant(raw), tf.constant(data.targets[chosen]), state, lungs)
        return pixels, targets, tf.constant(data.weights[chosen]), None

    with ThreadPoolExecutor(_AHEAD) as pool:
        ahead = deque(pool.submit(prepared, step) for step in range(min(_AHEAD, len(order))))
        for further in range(_AHEAD, len(order) + _AHEAD):
            batch = ahead.popleft().result()
            if further < len(order):
                ahead.append(pool.submit(prepared, further))
            yield batch


@functools.cache
def _varied(config: AugmentConfig, spec: PreprocessSpec) -> Callable[[Any, Any, Any, Any], tuple[Any, Any]]:
    """The graph from raw pixels, targets, a seed and lungs to pixels and targets, traced once for all epochs."""
    import tensorflow as tf

    def varied(raw: Any, targets: Any, state: Any, lungs: Any) -> tuple[Any, Any]:
        pixels = normalise_pixels(augment(raw, targets[:, 0] > 0.5, state, config, spec, lungs))
        if config.mixup:
            share = mixup_weights(raw.shape[0], state, config.mixup)
            pixels = share[:, None, None, None] * pixels + (1 - share)[:, None, None, None] * pixels[::-1]
            targets = share[:, None] * targets + (1 - share)[:, None] * targets[::-1]
        return pixels, targets

    traced: Callable[[Any, Any, Any, Any], tuple[Any, Any]] = tf.function(varied, autograph=False)
    return traced


def _repeated(indices: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rounds = [rng.permutation(indices) for _ in range(-(-count // len(indices)))]
    return np.concatenate(rounds)[:count]


def _drawn(
    indices: NDArray[np.int64], frequencies: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Systematic sampling (Madow 1949), in random order: one start, and from there steps of equal length."""
    order = rng.permutation(len(indices))
    ends = np.cumsum(frequencies[order]) * count / frequencies.sum()
    ends[-1] = count
    chosen = np.searchsorted(ends, rng.random() + np.arange(count), side="right")
    return rng.permutation(indices[order[chosen]])
