"""Is a calibration set fit to set int8 ranges? What is wrong with it is an error, never a warning.

Ranges that come from too few, strange or leaked images give a model that is worse than it looks, or looks better than
it is; other tools fall back to a handful of images, or to random ones, without a word.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import InputError
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_export.calibration import FEWEST
from slimscan_train.dataset import LabelledImage
from slimscan_train.split import Split

LEAST_SPREAD = 2.0
"""Standard deviation of a picture's grey levels, below which it is called constant. X-rays have 47 or more."""

LEAST_LIKENESS = 0.5
"""Correlation of neighbouring pixels, below which a picture is called noise. X-rays have 0.95 or more; noise has 0, or
0.25 after it was shrunk to the input's size."""

MOST_SATURATED = 0.01
"""Share of a tensor's values at an end of its range. Calibration by extremes leaves 1 in 10,000 or fewer there."""

_IMAGES_RUN = 32
"""Calibration images that saturation is looked for on: each costs some 10 ms with every tensor kept."""

_CLAMPS = {1: (True, False), 3: (True, True)}
"""Of TFLite's fused activations, which ends of the range they clamp to: RELU the lower, RELU6 both at 0 and 6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """How much of an int8 tensor lies at an end of its range, where no activation function puts it.

    Attributes:
        tensor: Its name.
        share: Of its values, the larger of both ends, 0 to 1.
    """

    tensor: str
    share: float


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

    The model is run without XNNPACK, which would not show the tensors between its operators. An end of the range that
    is the activation function's own (0 of a ReLU, 6 of a ReLU6) is where values belong and is not counted; neither is
    the quantised input, whose ends are black and white.

    Args:
        model: An int8 `.tflite` file with one uint8 input.
        pixels: uint8 `[N, H, W, C]`; at most the first 32 are run.

    Returns:
        Each int8 tensor that an operator makes, the most saturated first.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=model,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    open_ends = {
        tensor: ends for tensor, ends in _open_ends(model, details).items() if details[tensor]["dtype"] is np.int8
    }
    at_ends: Counter[tuple[int, int]] = Counter()
    values: Counter[int] = Counter()
    for image in pixels[:_IMAGES_RUN]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
        interpreter.invoke()
        for tensor, ends in open_ends.items():
            found = interpreter.get_tensor(tensor)
            values[tensor] += found.size
            for end in ends:
                at_ends[tensor, end] += int((found == end).sum())
    shares = [
        Saturation(
            tensor=details[tensor]["name"],
            share=max((at_ends[tensor, end] / values[tensor] for end in ends), default=0.0),
        )
        for tensor, ends in open_ends.items()
    ]
    return tuple(sorted(shares, key=lambda found: -found.share))


def require_unsaturated(model: bytes, pixels: NDArray[np.uint8]) -> None:
    """Refuse an int8 model whose ranges cut off what calibration images put through it.

    Raises:
        InputError: More than `MOST_SATURATED` of a tensor lies at an end of its range.
    """
    over = [found for found in saturation(model, pixels) if found.share > MOST_SATURATED]
    if over:
        raise InputError(
            f"{len(over)} int8 tensors saturate on the calibration images: {over[0].share:.1%} of the values of "
            f"{over[0].tensor} lie at an end of its range, at most {MOST_SATURATED:.0%} may; "
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


def _open_ends(model: bytes, details: dict[int, Any]) -> dict[int, tuple[int, ...]]:
    """Of each tensor that an operator makes, the ends of its int8 range that no activation function clamps to."""
    from tensorflow.lite.python import schema_py_generated as schema

    content = schema.Model.GetRootAs(model, 0)
    graph = content.Subgraphs(0)
    found = {}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        if content.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() == schema.BuiltinOperator.QUANTIZE:
            continue
        floor, ceiling = _CLAMPS.get(_activation(schema, operator), (False, False))
        for tensor in operator.OutputsAsNumpy():
            scale, zero_point = details[tensor]["quantization"]
            highest = (127 - zero_point) * scale
            clamped = (floor and zero_point == -128, ceiling and abs(highest - 6.0) < scale)
            found[int(tensor)] = tuple(end for end, clamp in zip((-128, 127), clamped, strict=True) if not clamp)
    return found


def _activation(schema: Any, operator: Any) -> int:
    """The activation function that an operator has fused, 0 for none."""
    names = {value: name for name, value in vars(schema.BuiltinOptions).items() if isinstance(value, int)}
    options: Any = getattr(schema, names[operator.BuiltinOptionsType()], None)
    if not hasattr(options, "FusedActivationFunction"):
        return 0
    table = options()
    table.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
    return int(table.FusedActivationFunction())
