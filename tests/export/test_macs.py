"""Multiply-accumulates and zeros: those that a hand counts, and the same in the Keras model and in every file."""

from typing import Any

import numpy as np
import pytest

from slimscan_bench.macs import tflite_macs, tflite_sparsity
from slimscan_bench.tflite_file import TfliteFile
from slimscan_edge.errors import InputError
from slimscan_export.macs import keras_macs


@pytest.fixture(scope="module")
def by_hand() -> Any:
    """8 x 8 x 1 -> 4 x 4 x 8 -> 4 x 4 x 8 (depthwise) -> 4 x 4 x 16 (1 x 1) -> 16 -> 2; no weight is zero."""
    import tf_keras

    layers = tf_keras.layers
    pixels = layers.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, 2, "same", kernel_initializer="ones", name="stem")(pixels)
    x = layers.DepthwiseConv2D(3, 1, "same", depthwise_initializer="ones", name="depthwise")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.Conv2D(16, 1, kernel_initializer="ones", name="pointwise")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(pixels, layers.Dense(2, kernel_initializer="ones", name="dense")(x))


HAND_COUNT = {
    "stem": 4 * 4 * 8 * (3 * 3 * 1),
    "depthwise": 4 * 4 * 8 * (3 * 3),
    "pointwise": 4 * 4 * 16 * 8,
    "dense": 16 * 2,
}


def test_a_keras_model_counts_as_a_hand_does(by_hand):
    assert keras_macs(by_hand) == HAND_COUNT


@pytest.mark.slow
def test_a_file_counts_as_a_hand_does_and_tells_its_zeros(by_hand):
    import tensorflow as tf

    file = tf.lite.TFLiteConverter.from_keras_model(by_hand).convert()
    assert sorted(tflite_macs(file).values()) == sorted(HAND_COUNT.values())
    assert tflite_sparsity(file) == 0.0
    kernel, *rest = by_hand.get_layer("pointwise").get_weights()
    try:
        by_hand.get_layer("pointwise").set_weights([np.where(np.arange(16) < 12, 0.0, kernel), *rest])
        emptied = tf.lite.TFLiteConverter.from_keras_model(by_hand).convert()
    finally:
        by_hand.get_layer("pointwise").set_weights([kernel, *rest])
    assert tflite_sparsity(emptied) == pytest.approx(12 * 8 / (8 * 9 + 8 * 9 + 8 * 16 + 16 * 2))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_no_precision_changes_the_count(exported, precision):
    assert sum(tflite_macs(exported.variants[precision]).values()) == sum(keras_macs(exported.model).values())


def test_a_model_that_multiplies_nothing_has_no_share_of_zeros(golden_bundle, monkeypatch):
    assert tflite_macs(golden_bundle.model)
    monkeypatch.setattr(TfliteFile, "weighted_operators", lambda _: [])
    with pytest.raises(InputError, match="neither convolutions nor fully connected layers"):
        tflite_sparsity(golden_bundle.model)
