"""Is a calibration set fit to set int8 ranges? What is wrong with it is an error, never a warning.

Ranges that come from too few, strange or leaked images give a model that is worse than it looks, or looks better than
it is; other tools fall back to a handful of images, or to random ones, without a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.tflite_file import FILE_IDENTIFIER
from slimscan_edge.errors import InputError
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_export.calibration import FEWEST, CalibrationConfig, draw_calibration
from slimscan_train.dataset import LabelledImage
from slimscan_train.run import Run
from slimscan_train.split import Split

LEAST_SPREAD = 2.0
"""Standard deviation of a picture's grey levels, below which it is called constant. X-rays have 47 or more."""

LEAST_LIKENESS = 0.5
"""Correlation of neighbouring pixels, below which a picture is called noise. X-rays have 0.95 or more; noise has 0, or
0.25 after it was shrunk to the input's size."""

MOST_SATURATED = 0.01
"""Share of a tensor's values beyond its range. Ranges from the extremes of the images themselves leave none there."""

_EXTREMES = 2
"""Values of a tensor that are not counted: the two its range comes from. The range is that of the float network, and
what int8 adds on the way may put them just beyond it; of a logit, which has a value an image, one is 3 %."""

_IMAGES_RUN = 32
"""Calibration images that saturation is looked for on: each costs some 10 ms with every tensor kept."""

_WIDER = 2
"""So many times as wide a range shows what lies beyond the one there is."""

_KEEP_THE_SCALE = ("PAD", "PADV2", "RESHAPE", "MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION", "STRIDED_SLICE")
"""Operators whose output must have the scale of their input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """How much of what passes through an int8 tensor lies beyond its range and is cut off.

    Attributes:
        tensor: Its name.
        share: Of its values, 0 to 1; but for two of them, whichever its extremes are.
    """

    tensor: str
    share: float


def calibration_pixels(run: Run, config: CalibrationConfig) -> tuple[tuple[LabelledImage, ...], NDArray[np.uint8]]:
    """Draw a run's calibration images, preprocess them as its model does, and audit them.

    Returns:
        The images, and their pixels uint8 `[N, H, W, C]`.

    Raises:
        InputError: As for `audit_calibration`; or the training split has too few images of a class.
    """
    images = draw_calibration(run.split, config)
    pixels, spec = run.pixels(images), run.config.preprocess
    audit_calibration(images, pixels, run.split, made_with=spec, model_takes=spec)
    return images, pixels


def audit_calibration(
    images: Sequence[LabelledImage],
    pixels: NDArray[np.uint8],
    split: Split,
    *,
    made_with: PreprocessSpec,
    model_takes: PreprocessSpec,
    judging: Sequence[str] = ("val", "val_shift", "test"),
) -> None:
    """Refuse a calibration set that is not fit to set int8 ranges.

    Args:
        images: The set.
        pixels: Of each, uint8 `[N, H, W, C]`.
        split: Of all images of the data set; what it says of the judging splits is what the set must keep off.
        made_with: The preprocessing that made the pixels.
        model_takes: The model's preprocessing.
        judging: Splits that judge or test.

    Raises:
        InputError: There are too few images, or too few of a class; one is a constant or noise-like picture, or shares
            its content or its patient with a split that judges; or the preprocessing is not the model's.
    """
    _require_apart(images, split, judging)
    _require_enough(images, split)
    if made_with != model_takes:
        raise InputError(
            f"calibration images were preprocessed as {made_with}, the model takes {model_takes}; "
            "make them with the model's preprocessing"
        )
    expected = (len(images), model_takes.height, model_takes.width, model_takes.channels)
    if pixels.shape != expected:
        raise InputError(f"calibration pixels are {list(pixels.shape)}, expected {list(expected)}")
    _require_pictures(images, pixels)


def saturation(model: bytes, pixels: NDArray[np.uint8]) -> tuple[Saturation, ...]:
    """Look for int8 tensors whose range is too narrow for what passes through them.

    A value at the end of a range need not be cut off: an activation function puts many there, and so does a bias where
    nothing else is. So the model is run with ranges twice as wide, and what then lies beyond the narrower ones is
    counted. It is run without XNNPACK, which would not show the tensors between its operators.

    Args:
        model: An int8 `.tflite` file with one uint8 input.
        pixels: uint8 `[N, H, W, C]`; at most the first 32 are run.

    Returns:
        Each int8 tensor that an operator makes, the most saturated first.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    wider, ranges = _widened(model)
    interpreter = Interpreter(
        model_content=wider,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    beyond, values = dict.fromkeys(ranges, 0), dict.fromkeys(ranges, 0)
    for image in pixels[:_IMAGES_RUN]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
        interpreter.invoke()
        for tensor, (lowest, highest) in ranges.items():
            scale, zero_point = details[tensor]["quantization"]
            found = (interpreter.get_tensor(tensor).astype(np.float64) - zero_point) * scale
            values[tensor] += found.size
            beyond[tensor] += int(((found < lowest - scale) | (found > highest + scale)).sum())
    shares = [
        Saturation(tensor=details[tensor]["name"], share=max(0, beyond[tensor] - _EXTREMES) / values[tensor])
        for tensor in ranges
    ]
    return tuple(sorted(shares, key=lambda found: -found.share))


def require_unsaturated(model: bytes, pixels: NDArray[np.uint8]) -> None:
    """Refuse an int8 model whose ranges cut off what calibration images put through it.

    Raises:
        InputError: More than `MOST_SATURATED` of a tensor lies beyond its range.
    """
    over = [found for found in saturation(model, pixels) if found.share > MOST_SATURATED]
    if over:
        raise InputError(
            f"{len(over)} int8 tensors saturate on the calibration images: {over[0].share:.1%} of the values of "
            f"{over[0].tensor} lie beyond its range, at most {MOST_SATURATED:.0%} may; "
            "calibrate on images like those that the model will see"
        )


def _require_apart(images: Sequence[LabelledImage], split: Split, judging: Sequence[str]) -> None:
    judged = split.select(*judging)
    by_content = {image.sha256: image for image in judged}
    by_patient = {image.patient: image for image in judged}
    for image in images:
        if twin := by_content.get(image.sha256):
            raise InputError(
                f"calibration image {image.path} is the same file as {twin.path}, which judges "
                f"(split {twin.split}); calibrate on training images only"
            )
        if other := by_patient.get(image.patient):
            raise InputError(
                f"calibration image {image.path} is of patient {image.patient}, whose {other.path} judges "
                f"(split {other.split}); calibrate on training patients only"
            )


def _require_enough(images: Sequence[LabelledImage], split: Split) -> None:
    different = len({image.sha256 for image in images})
    if different < FEWEST:
        raise InputError(f"got {different} different calibration images, expected {FEWEST} or more")
    for label in split.labels:
        of_class = len({image.sha256 for image in images if image.label == label})
        if of_class < FEWEST // 2:
            raise InputError(
                f"got {of_class} calibration images of class {label}, expected {FEWEST // 2} or more: ranges must hold "
                "both classes"
            )


def _require_pictures(images: Sequence[LabelledImage], pixels: NDArray[np.uint8]) -> None:
    for image, picture in zip(images, pixels, strict=True):
        grey = picture.astype(np.float64).mean(axis=-1)
        if grey.std() < LEAST_SPREAD:
            raise InputError(
                f"calibration image {image.path} is constant (its grey levels have a standard deviation of "
                f"{grey.std():.2f}); leave it out"
            )
        if (likeness := _likeness(grey)) < LEAST_LIKENESS:
            raise InputError(
                f"calibration image {image.path} looks like noise (neighbouring pixels correlate by {likeness:.2f}, "
                "X-rays by 0.95); leave it out"
            )


def _likeness(grey: NDArray[np.float64]) -> float:
    """Correlation of each pixel with the next one, along rows or columns, whichever is less; grey levels `[H, W]`."""
    centred = grey - grey.mean()
    along = ((centred[:, 1:] * centred[:, :-1]).mean(), (centred[1:] * centred[:-1]).mean())
    return float(min(along) / (centred**2).mean())


def _widened(model: bytes) -> tuple[bytes, dict[int, tuple[float, float]]]:
    """The model with every int8 range `_WIDER` times as wide about its middle, and the ranges that it had, by tensor.

    The input keeps its range, which is all grey levels, and so does what only moves it. A bias has the scale of its
    operator's input times the weights', so that it goes with the input.
    """
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    graph = content.subgraphs[0]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    ranges: dict[int, tuple[float, float]] = {}
    for operator in graph.operators:
        kind = names[content.operatorCodes[operator.opcodeIndex].builtinCode]
        if operator.inputs[0] in ranges:
            _widen_bias(content, graph, operator)
        elif kind == "QUANTIZE" or kind in _KEEP_THE_SCALE:
            continue
        for index in operator.outputs:
            tensor = graph.tensors[index]
            if tensor.type == schema.TensorType.INT8:
                scale, zero_point = float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])
                ranges[int(index)] = ((-128 - zero_point) * scale, (127 - zero_point) * scale)
                tensor.quantization.scale = np.array([scale * _WIDER], np.float32)
                tensor.quantization.zeroPoint = np.array([round(zero_point / _WIDER)], np.int64)
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output()), ranges


def _widen_bias(content: Any, graph: Any, operator: Any) -> None:
    from tensorflow.lite.python.schema_py_generated import BufferT, TensorType

    bias = graph.tensors[operator.inputs[2]] if len(operator.inputs) > 2 and operator.inputs[2] >= 0 else None
    if bias is not None and bias.type == TensorType.INT32:
        whole = np.frombuffer(bytes(content.buffers[bias.buffer].data), "<i4")
        copy = BufferT()  # another bias may share the one that there is
        copy.data = np.frombuffer(np.rint(whole / _WIDER).astype("<i4").tobytes(), np.uint8)
        bias.buffer = len(content.buffers)
        content.buffers.append(copy)
        bias.quantization.scale = np.asarray(bias.quantization.scale, np.float32) * np.float32(_WIDER)
