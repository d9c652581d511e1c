"""From a Keras model to TFLite, in five precisions, all with the same contract.

Every file takes raw uint8 pixels `[1, H, W, C]` and gives logits `[1, K]` and the evidence map
`[1, h, w, K]`. In int8 the pixels are the quantised input already and nothing is normalised at all; the others
normalise inside the graph.

A SavedModel is written once and every conversion starts from it: through `from_keras_model` the same bytes
take several times as long.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import InputError
from slimscan_edge.interpreter import Interpreter
from slimscan_export.compaction import compact
from slimscan_train.model import PIXEL_CENTRE, PIXEL_SCALE, normalise_pixels
from slimscan_train.quiet import held_back_stderr

Precision = Literal["float32", "float16", "dynamic", "int16x8", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "dynamic", "int8")
"""Those that every export makes; `int16x8` is one more to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedModel:
    """A SavedModel on disk with two signatures: `pixels` (uint8, raw) and `normalised` (float32).

    Attributes:
        folder: Where it lies.
        quantisation_aware: Its ranges were learnt in training: int8 needs no calibration images.
    """

    folder: Path
    quantisation_aware: bool


@contextmanager
def saved_model(model: Any, *, quantisation_aware: bool = False) -> Iterator[SavedModel]:
    """Write a Keras model as a SavedModel for as long as the block runs."""
    import tensorflow as tf

    shape = (1, *model.input_shape[1:])

    def answer(normalised: Any) -> dict[str, Any]:
        logits, evidence = model(normalised, training=False)
        return {"evidence": evidence, "logits": logits}

    module = tf.Module()
    module.weights = model.variables  # not the model: the functions of each layer would be saved too, and loaded again
    signatures = {
        "pixels": tf.function(
            lambda pixels: answer(normalise_pixels(pixels)), input_signature=[tf.TensorSpec(shape, tf.uint8, "pixels")]
        ),
        "normalised": tf.function(answer, input_signature=[tf.TensorSpec(shape, tf.float32, "normalised")]),
    }
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        yield SavedModel(folder=Path(folder), quantisation_aware=quantisation_aware)


def convert(saved: SavedModel, precision: Precision, calibration: NDArray[np.uint8] | None = None) -> bytes:
    """Convert to TFLite.

    Args:
        saved: The model.
        precision: `float32`; `float16` weights; `dynamic`: int8 weights with float activations; `int16x8`: int8
            weights with int16 activations; `int8`: int8 weights and activations throughout.
        calibration: Representative images uint8 `[N, H, W, C]`; `int16x8`, and `int8` after training, need them.

    Returns:
        The bytes of a `.tflite` file.

    Raises:
        InputError: No calibration images where they are needed, or a model that int8 cannot hold throughout.
    """
    import tensorflow as tf

    signature = "normalised" if precision == "int8" else "pixels"
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved.folder), signature_keys=[signature])
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int16x8":
        converter.representative_dataset = _representative(calibration, normalised=False)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,  # no operator takes uint8 pixels to int16 activations
        ]
    if precision == "int8":
        if not saved.quantisation_aware:  # else the converter finds the ranges in the graph, and refuses int8 operators
            converter.representative_dataset = _representative(calibration, normalised=True)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8
    with held_back_stderr():  # the converter tells its passes
        model = compact(converter.convert())
    if precision == "int8":
        require_full_int8(model)
    return model


def require_full_int8(model: bytes) -> None:
    """Check that a model is int8 throughout and takes raw pixels.

    Raises:
        InputError: A float tensor is left, or the input's grid is not that of raw pixels.
    """
    if floats := float_tensors(model):
        raise InputError(f"{len(floats)} float tensors are left in the int8 model ({floats[0]} first)")
    found = Interpreter(model).input
    if found.zero_point != round(PIXEL_CENTRE) or not np.isclose(found.scale, 1 / PIXEL_SCALE, rtol=1e-5):
        raise InputError(
            f"the int8 input has scale {found.scale} and zero point {found.zero_point}, expected 1/127.5 and 128: "
            "raw pixels would be misread"
        )


def float_tensors(model: bytes) -> list[str]:
    """Names of the float tensors in a model."""
    from ai_edge_litert.interpreter import Interpreter as LiteInterpreter

    details = LiteInterpreter(model_content=model).get_tensor_details()
    return [detail["name"] for detail in details if np.issubdtype(detail["dtype"], np.floating)]


def output_roles(interpreter: Interpreter) -> tuple[str, ...]:
    """What each output is: logits have two axes, the evidence map four.

    Raises:
        InputError: The model has other outputs.
    """
    roles = tuple({2: "logits", 4: "evidence"}.get(len(spec.shape), "?") for spec in interpreter.outputs)
    if sorted(roles) != ["evidence", "logits"]:
        shapes = [spec.shape for spec in interpreter.outputs]
        raise InputError(f"the model's outputs are {shapes}, expected logits [1, K] and evidence [1, h, w, K]")
    return roles


def _representative(calibration: NDArray[np.uint8] | None, *, normalised: bool) -> Callable[[], Iterator[list[Any]]]:
    """Calibration images as the converter asks for them, of the signature `normalised` or `pixels`.

    One corner pixel each of black and white pins the input's range to all grey levels, so that its grid is that
    of raw pixels whatever the images hold.
    """
    if calibration is None or not len(calibration):
        raise InputError("quantisation after training needs calibration images, got none")

    def images() -> Iterator[list[Any]]:
        for image in calibration:
            pinned = image.copy()
            pinned[0, 0], pinned[0, -1] = 0, 255
            yield [normalise_pixels(pinned[np.newaxis]) if normalised else pinned[np.newaxis]]

    return images
