"""Pruning and quantisation-aware training: zeros survive into the file, and the float model stays what it was."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as LiteInterpreter
from numpy.typing import NDArray

from slimscan_edge.interpreter import Interpreter
from slimscan_export.convert import convert, float_tensors, saved_model
from slimscan_export.fine_tuning import FineTuneConfig, prune, quantisation_aware, zero_share
from slimscan_train.training import training_set

SPARSITY = 0.5
TUNING = FineTuneConfig(epochs=1, learning_rate=1e-4)


@dataclass(frozen=True, kw_only=True)
class Compressed:
    before: list[NDArray[np.float32]]
    after: list[NDArray[np.float32]]
    pruned: Any
    aware: Any
    tflite: bytes


@pytest.fixture(scope="module")
def compressed(squares_run) -> Compressed:
    """The run's model pruned, then quantisation-aware, then int8."""
    model = squares_run.model()
    before = model.get_weights()
    train = training_set(squares_run.split, squares_run.config, squares_run.data_root, lambda _: None)
    pruned = prune(model, SPARSITY, train, squares_run.config, TUNING)
    aware = quantisation_aware(pruned, train, squares_run.config, TUNING, keep_zeros=True)
    with saved_model(aware, quantisation_aware=True) as saved:
        tflite = convert(saved, "int8")
    return Compressed(before=before, after=model.get_weights(), pruned=pruned, aware=aware, tflite=tflite)


def pointwise_kernels(tflite: bytes) -> list[NDArray[np.int8]]:
    """The constant int8 tensors `[filters, 1, 1, channels]` of a file: each has a scale for every filter."""
    interpreter = LiteInterpreter(model_content=tflite)
    interpreter.allocate_tensors()
    return [
        interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] == np.int8
        and len(detail["shape"]) == 4
        and tuple(detail["shape"][1:3]) == (1, 1)
        and len(detail["quantization_parameters"]["scales"]) == detail["shape"][0] > 1
    ]


@pytest.mark.slow
def test_zeros_survive_pruning_quantisation_aware_training_and_conversion(compressed):
    keras = [
        layer.kernel.numpy()
        for layer in compressed.pruned.layers
        if layer.name.endswith("_pointwise") and hasattr(layer, "kernel")
    ]
    assert keras
    for kernel in keras:
        assert (kernel == 0).mean() == pytest.approx(SPARSITY, abs=1 / kernel.size + 1e-9)
    kernels = pointwise_kernels(compressed.tflite)
    assert len(kernels) == len(keras)
    for kernel in kernels:
        assert (kernel == 0).mean() >= SPARSITY - 1 / kernel.size


@pytest.mark.slow
def test_the_input_grid_is_pinned_to_raw_pixels(compressed):
    found = Interpreter(compressed.tflite).input
    assert (found.dtype, found.zero_point) == ("uint8", 128)
    assert found.scale == pytest.approx(1 / 127.5, rel=1e-5)
    assert float_tensors(compressed.tflite) == []


@pytest.mark.slow
def test_the_float_model_is_left_as_it_was(compressed):
    """The gates hold the result against it."""
    for before, after in zip(compressed.before, compressed.after, strict=True):
        assert np.array_equal(before, after)


def test_the_share_of_zeros_counts_kernels_alone():
    import tf_keras

    pixels = tf_keras.layers.Input((4, 4, 1))
    kept = tf_keras.layers.Conv2D(2, 1, kernel_initializer="ones", bias_initializer="zeros")(pixels)
    gone = tf_keras.layers.Conv2D(2, 1, kernel_initializer="zeros")(kept)
    assert zero_share(tf_keras.Model(pixels, gone)) == pytest.approx(4 / 6)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": 0.0}, {"learning_rate": 0.5}])
def test_fine_tuning_that_is_none_or_too_coarse_is_refused(wrong):
    with pytest.raises(ValueError, match="epochs"):
        FineTuneConfig(**wrong)
