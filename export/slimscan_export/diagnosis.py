"""Which layers int8 hurts: each one's signal-to-quantisation-noise ratio, named as the Keras model names it.

Measured by TFLite's own `tf.lite.experimental.QuantizationDebugger`, which runs here with TensorFlow 2.21. It puts
beside every int8 operator its float twin with the same input and compares the two, so that what is found at a layer is
the noise of that layer alone. Running the float and the int8 file side by side was tried as well: there a layer shows
the noise of all before it too (after a layer broken to 4 dB, none had more than 12 dB), and tensors have to be matched
by name. The debugger takes a model whose ranges were measured after training; one whose ranges were learnt in training
has no float twin.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_export.compaction import compact
from slimscan_export.convert import SavedModel
from slimscan_export.splice import unpacked
from slimscan_train.model import normalise_pixels
from slimscan_train.quiet import held_back_stderr

IMAGES = 32
"""Calibration images that noise is measured on, spread over all of them, so that both classes are there."""

LOW_SQNR_DB = 20.0
"""Below it a layer is called out: noise of a tenth of the signal. Layers of networks that int8 does not hurt have 33 dB
and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNoise:
    """What int8 adds to one layer's output.

    Attributes:
        layer: The Keras layer, or "" when its name is lost in conversion.
        operator: TFLite's ("CONV_2D").
        tensor: Name of the operator's output in the int8 file.
        sqnr_db: Power of the float output over the power of int8's difference from it, in dB; infinite without a
            difference.
    """

    layer: str
    operator: str
    tensor: str
    sqnr_db: float

    @property
    def name(self) -> str:
        """The layer, or its operator and tensor where it has no name."""
        return self.layer or f"{self.operator} {self.tensor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The noise that int8 adds at every layer.

    Attributes:
        images: Calibration images that it was measured on.
        layers: In the order in which they run.
    """

    images: int
    layers: tuple[LayerNoise, ...]

    @property
    def worst_first(self) -> tuple[LayerNoise, ...]:
        """The noisiest layer first."""
        return tuple(sorted(self.layers, key=lambda found: found.sqnr_db))

    @property
    def called_out(self) -> tuple[LayerNoise, ...]:
        """Layers below `LOW_SQNR_DB`, the noisiest first."""
        return tuple(found for found in self.worst_first if found.sqnr_db < LOW_SQNR_DB)


def noisiest(diagnosis: Diagnosis, most: int = 3) -> str:
    """The noisiest layers in words: "block4_pointwise (4.3 dB), stem (35.1 dB)"."""
    return ", ".join(f"{found.name} ({found.sqnr_db:.1f} dB)" for found in diagnosis.worst_first[:most])


def sqnr_db(signal: float, noise: float) -> float:
    """Signal-to-quantisation-noise ratio in dB: 10 log10 of the ratio of two powers.

    Args:
        signal: Mean square of the float values.
        noise: Mean square of the difference of the quantised values from them.
    """
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def diagnose(saved: SavedModel, model: Any, calibration: NDArray[np.uint8]) -> Diagnosis:
    """Measure each layer's noise when the model is quantised after training.

    Args:
        saved: The model.
        model: The same in Keras, whose names are given to the layers.
        calibration: Images that the ranges are measured on, uint8 `[N, H, W, C]`; `IMAGES` of them are run.
    """
    places = np.unique(np.linspace(0, len(calibration) - 1, IMAGES).round().astype(int))
    with held_back_stderr():
        debugger = _debugger(saved, calibration, shown=calibration[places])
        debugger.run()
    table = io.StringIO()
    debugger.layer_statistics_dump(table)
    table.seek(0)
    name = _namer(model, debugger)
    return Diagnosis(
        images=len(places),
        layers=tuple(
            LayerNoise(
                layer=name(row["tensor_name"]),
                operator=row["op_name"],
                tensor=row["tensor_name"],
                sqnr_db=round(sqnr_db(float(row["signal"]), float(row["mean_squared_error"])), 2),
            )
            for row in csv.DictReader(table)
        ),
    )


def convert_partly(saved: SavedModel, calibration: NDArray[np.uint8], in_float: Sequence[str]) -> bytes:
    """Convert to int8 after training, but for some operators that stay float.

    Args:
        saved: The model.
        calibration: Images that the ranges are measured on, uint8 `[N, H, W, C]`.
        in_float: Names of the float operators' outputs, as `LayerNoise.tensor` has them.

    Returns:
        The bytes of a `.tflite` file with raw uint8 pixels in and int8 out, as `convert.convert` gives them.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    with held_back_stderr():
        debugger = _debugger(saved, calibration, shown=calibration[:1])
        # Through the debugger's own method input and output would be float: what it passes on does not say otherwise.
        model: bytes = mlir_quantize(
            debugger.calibrated_model,
            input_data_type=tf.uint8,
            output_data_type=tf.int8,
            denylisted_nodes=list(in_float),
        )
        return compact(model)


def _debugger(saved: SavedModel, calibration: NDArray[np.uint8], *, shown: NDArray[np.uint8]) -> Any:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved.folder), signature_keys=["normalised"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = _normalised(calibration)
    return tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=_normalised(shown),
        debug_options=tf.lite.experimental.QuantizationDebugOptions(
            layer_direct_compare_metrics={"signal": lambda real, *_: float(np.mean(np.square(real, dtype=np.float64)))}
        ),
    )


def _normalised(pixels: NDArray[np.uint8]) -> Callable[[], Iterator[list[Any]]]:
    """Images as the float network takes them, with a black and a white pixel: the input has the range of all pixels."""

    def images() -> Iterator[list[Any]]:
        for image in pixels:
            pinned = image.copy()
            pinned[0, 0], pinned[0, -1] = 0, 255
            yield [normalise_pixels(pinned[np.newaxis]).numpy()]

    return images


def _namer(model: Any, debugger: Any) -> Callable[[str], str]:
    """From an int8 tensor's name to the Keras layer that makes it.

    A tensor's name lists the operators that were fused into one; the layer with the weights names them all. The model's
    outputs have the name of a function instead and are known by their axes.
    """
    import tf_keras

    weighted = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D, tf_keras.layers.Dense)
    layers = {layer.name: layer for layer in model.layers}
    by_axes = {len(output.shape): output.node.layer.name for output in model.outputs}
    graph = unpacked(debugger.quant_model).subgraphs[0]
    given = [graph.tensors[index] for index in graph.outputs]
    outputs = {tensor.name.decode(): by_axes.get(len(tensor.shape), "") for tensor in given}

    def name(tensor: str) -> str:
        fused = [part for place in tensor.split(";") for part in place.split("/") if part in layers]
        heavy = [part for part in fused if isinstance(layers[part], weighted)]
        return (heavy[:1] or fused[-1:] or [outputs.get(tensor, "")])[0]  # a sum before the activation fused to it

    return name
