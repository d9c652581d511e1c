"""Two ways to train the same network on the same pictures, each able to time an epoch of itself: ours, and plain Keras.

The pictures are drawn chests, JPEG files of the sizes that X-rays come in. Ours finds them decoded, as `slimscan train`
does after its first look at a data set; plain Keras decodes and shrinks the files in every epoch.
"""

import functools
import io
import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from slimscan_bench.typical_images import TYPICAL
from slimscan_edge.preprocess import preprocess
from slimscan_train.augment import AugmentConfig, larger
from slimscan_train.batches import Batch, TrainingSet, training_batches
from slimscan_train.config import TrainConfig
from slimscan_train.model import PIXEL_CENTRE, PIXEL_SCALE, build_model
from slimscan_train.phantom import draw_phantom

DRAWINGS = 64
"""Pictures that differ; drawn once, they come again and again, which no way of training notices."""


class SlimscanTraining:
    """As `slimscan_train.fit.fit` trains: decoded pixels, augmentation in the graph, a compiled step."""

    def __init__(self, config: TrainConfig, steps: int) -> None:
        from slimscan_train.fit import build_optimizer, step_function

        spec, self._config, self._epoch = config.preprocess, config, 0
        self._data = drawn_set(config, steps)
        model, kept = (
            build_model(config.model, spec.height, spec.width, spec.channels, seed=config.fit.seed) for _ in range(2)
        )
        self._step_once = step_function(model, kept, build_optimizer(model, config.fit, steps), config)
        self._steps, self._prepared = steps, next(self._batches())

    def step_s(self) -> float:
        """Seconds of an epoch of steps on one batch that is ready: no input pipeline at all."""
        start = perf_counter()
        for _ in range(self._steps):
            loss = self._step_once(*self._prepared)
        loss.numpy()
        return perf_counter() - start

    def pipeline_s(self) -> float:
        """Seconds to prepare the batches of an epoch, with no step."""
        start = perf_counter()
        for _ in self._batches():
            pass
        return perf_counter() - start

    def training_s(self) -> float:
        """Seconds of an epoch as `fit` runs it, without validation: the next batch is prepared during a step."""
        start = perf_counter()
        losses = [self._step_once(*batch) for batch in self._batches()]
        losses[-1].numpy()
        return perf_counter() - start

    def _batches(self) -> Iterator[Batch]:
        """Those of the next epoch."""
        from slimscan_train.fit import batch_order

        config, data, epoch = self._config, self._data, self._epoch
        self._epoch += 1
        order = batch_order(data, config, epoch)
        return training_batches(data, order, config.augment, seed=config.fit.seed, epoch=epoch)


class KerasTraining:
    """As the Keras guide "Image classification from scratch" trains: files, preprocessing layers, compile and fit.

    https://keras.io/examples/vision/image_classification_from_scratch/, the variant that augments in the data
    pipeline, which it advises on a CPU. Its layers stand in for those of our augmentations that Keras has.
    """

    def __init__(self, config: TrainConfig, steps: int, folder: Path) -> None:
        write_files(folder, steps * config.fit.batch)
        import tensorflow as tf
        import tf_keras

        asked, spec = config.fit, config.preprocess
        tf_keras.utils.set_random_seed(asked.seed)
        tf_keras.utils.disable_interactive_logging()  # it would report to stdout
        vary = preprocessing_layers(config.augment)
        self._batches = (
            tf_keras.utils.image_dataset_from_directory(
                folder,
                label_mode="binary",
                color_mode="grayscale" if spec.channels == 1 else "rgb",
                batch_size=asked.batch,
                image_size=(spec.height, spec.width),
            )
            .map(lambda pixels, labels: (vary(pixels, training=True), labels), num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )
        # The folders name two classes, so there is one logit to learn; the map of evidence has no target in either way.
        network = build_model(replace(config.model, outputs=1), spec.height, spec.width, spec.channels, seed=asked.seed)
        self._model = tf_keras.Model(network.input, network.outputs[0])
        self._model.compile(
            optimizer=tf_keras.optimizers.AdamW(asked.learning_rate, weight_decay=asked.weight_decay),
            loss=tf_keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=asked.label_smoothing),
        )

    def training_s(self) -> float:
        """Seconds of an epoch."""
        start = perf_counter()
        self._model.fit(self._batches, epochs=1, verbose=0)
        return perf_counter() - start


def drawn_set(config: TrainConfig, steps: int) -> TrainingSet:
    """The drawn chests of `write_files` for an epoch of `steps` steps, as `slimscan train` reads them."""
    count = steps * config.fit.batch
    drawn = np.stack(
        [preprocess(file, larger(config.preprocess, config.augment)) for file in _drawn_files(min(count, DRAWINGS))]
    )
    positive = np.arange(count) % 2 == 0
    return TrainingSet(
        pixels=drawn[np.arange(count) % DRAWINGS],
        targets=np.repeat(positive[:, None], config.model.outputs, axis=1).astype(np.float32),
        weights=np.ones(count, np.float32),
        spec=config.preprocess,
    )


def write_files(folder: Path, count: int) -> None:
    """Put drawn chests into `negative/` and `positive/` of an existing folder; those that come again are links."""
    for label in ("negative", "positive"):
        (folder / label).mkdir()
    files = _drawn_files(min(count, DRAWINGS))
    paths = [folder / ("negative" if index % 2 else "positive") / f"{index:06}.jpeg" for index in range(count)]
    for path, file in zip(paths, files, strict=False):
        path.write_bytes(file)
    for index in range(len(files), count):
        os.link(paths[index % DRAWINGS], paths[index])


def preprocessing_layers(config: AugmentConfig) -> Any:
    """The layers of Keras nearest to our augmentations, at their strength, then its scaling of pixels.

    Flip, rotation, zoom (a crop's share of the area, the aspect ratio kept) and contrast; those that are turned off
    are left out. Gamma, exposure, blur, noise, erased boxes and mixing have no layer: Keras is spared them.
    """
    import tf_keras

    layers = tf_keras.layers
    zoom = (math.sqrt(config.crop_area_min) - 1.0, math.sqrt(config.crop_area_max) - 1.0)
    chosen = [
        layers.RandomFlip("horizontal") if config.flip else None,
        layers.RandomRotation(config.rotation_deg / 360.0) if config.rotation_deg else None,
        layers.RandomZoom(zoom) if any(zoom) else None,
        layers.RandomContrast(1.0 - math.exp(-config.contrast)) if config.contrast else None,
        # Last: RandomContrast clips to 0 to 255.
        layers.Rescaling(1.0 / PIXEL_SCALE, offset=-PIXEL_CENTRE / PIXEL_SCALE),
    ]
    return tf_keras.Sequential([layer for layer in chosen if layer is not None])


@functools.cache
def _drawn_files(count: int) -> tuple[bytes, ...]:
    """JPEG files of typical sizes; the same ones every time."""
    rng = np.random.default_rng(0)
    files = []
    for width, height, quality in itertools.islice(itertools.cycle(TYPICAL), count):
        buffer = io.BytesIO()
        Image.fromarray(draw_phantom(rng, height=height, width=width)).save(buffer, "JPEG", quality=quality)
        files.append(buffer.getvalue())
    return tuple(files)
