"""The ONNX twin: the float network for ONNX Runtime, under the contract of every model here.

It is written layer by layer from the Keras model, so that a network narrower in some layers than its recipe asked for
converts as well. Inside, tensors are `[N, C, H, W]` as ONNX has it; outside they are as everywhere else.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge import __version__
from slimscan_edge.errors import InputError, InterpreterError, MissingExtraError
from slimscan_edge.interpreter import Interpreter
from slimscan_export.convert import output_roles
from slimscan_export.provenance import intended_use, training_data
from slimscan_train.model import PIXEL_CENTRE, PIXEL_SCALE
from slimscan_train.run import Run

OPSET = 13
IR_VERSION = 7
"""What ONNX 1.8 reads and ONNX Runtime runs since 1.6, on phones and in browsers too."""

INPUT = "pixels"
OUTPUTS = ("logits", "evidence")
LARGEST_DIFFERENCE = 1e-4
"""From float TFLite, in any logit and any cell of the map: float32 sums in another order differ by less."""


def require_onnx() -> None:
    """Refuse a machine that cannot write and prove an ONNX model.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as exc:
        raise MissingExtraError("the ONNX twin", "onnx", (exc.name or "onnx").split(".")[0]) from exc


def onnx_twin(model: Any, properties: Mapping[str, str]) -> bytes:
    """Write a Keras model as ONNX.

    Args:
        model: From float32 `[B, H, W, C]`, pixels as `(p - 128) / 127.5`, to logits `[B, K]` and the evidence map
            `[B, h, w, K]`, of the kinds of layers that `slimscan_train.model` uses.
        properties: What the file is to say of the model, by key.

    Returns:
        The bytes of an `.onnx` file from `pixels`, uint8 `[N, H, W, C]`, to `logits` and `evidence`, float32.

    Raises:
        InputError: A layer is of another kind, or set in a way that is not known here.
        MissingExtraError: The extra is not installed.
    """
    require_onnx()
    import onnx
    from onnx import helper

    graph = _Graph()
    graph.normalise(model.input)
    for layer in model.layers:
        if type(layer).__name__ != "InputLayer":
            graph.add(layer)
    for name, tensor in zip(OUTPUTS, model.outputs, strict=True):
        graph.give(name, tensor)
    described = [
        helper.make_tensor_value_info(name, kind, ["N", *shape[1:]])
        for name, kind, shape in (
            (INPUT, onnx.TensorProto.UINT8, model.input_shape),
            *(
                (name, onnx.TensorProto.FLOAT, tensor.shape)
                for name, tensor in zip(OUTPUTS, model.outputs, strict=True)
            ),
        )
    ]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "slimscan", described[:1], described[1:], graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="slimscan",
        producer_version=__version__,
    )
    helper.set_model_props(proto, dict(properties))
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def run_properties(run: Run) -> dict[str, str]:
    """What an ONNX twin says of a run's float model: a manifest in small, its records as JSON."""
    return {
        "labels": json.dumps(run.split.labels),
        "subtypes": json.dumps(run.split.subtypes if run.config.model.outputs == 2 else ()),
        "preprocess": json.dumps(dataclasses.asdict(run.config.preprocess)),
        "operating_point": json.dumps(dataclasses.asdict(run.operating_point)),
        "training_data": json.dumps(training_data(run)),
        "intended_use": intended_use(run),
    }


def onnx_difference(twin: bytes, float_tflite: bytes, pixels: NDArray[np.uint8]) -> float:
    """Largest difference of an ONNX model in ONNX Runtime from float TFLite.

    Args:
        twin: An `.onnx` file.
        float_tflite: A `.tflite` file with the same contract.
        pixels: uint8 `[N, H, W, C]`, at least one.

    Returns:
        The largest absolute difference of a logit or a cell of the evidence map.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(twin, providers=["CPUExecutionProvider"])
    interpreter = Interpreter(float_tflite)
    at = [output_roles(interpreter).index(name) for name in OUTPUTS]
    largest = 0.0
    for image in pixels:
        found = session.run(list(OUTPUTS), {INPUT: image[np.newaxis]})
        expected = interpreter.invoke(image[np.newaxis])
        largest = max(largest, *(float(np.abs(f - expected[i]).max()) for f, i in zip(found, at, strict=True)))
    return largest


def require_parity(twin: bytes, float_tflite: bytes, pixels: NDArray[np.uint8]) -> float:
    """As `onnx_difference`, but refuse a twin that answers otherwise.

    Raises:
        InterpreterError: It differs by more than `LARGEST_DIFFERENCE`.
    """
    difference = onnx_difference(twin, float_tflite, pixels)
    if not difference <= LARGEST_DIFFERENCE:
        raise InterpreterError(
            f"the ONNX twin differs from float TFLite by {difference:.2g} (at most {LARGEST_DIFFERENCE} allowed); "
            "do not use it, install another onnxruntime version"
        )
    return difference


class _Graph:
    """An ONNX graph in the making; each Keras tensor has a name in it."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._names: dict[int, str] = {}

    def normalise(self, tensor: Any) -> None:
        """Pixels as the network takes them, channels first."""
        from onnx import TensorProto

        self._node("Cast", [INPUT], "real", to=TensorProto.FLOAT)
        self._node("Sub", ["real", self._weight("centre", PIXEL_CENTRE)], "centred")
        self._node("Div", ["centred", self._weight("scale", PIXEL_SCALE)], "normalised")
        self._names[id(tensor)] = self._node("Transpose", ["normalised"], "channels_first", perm=(0, 3, 1, 2))

    def give(self, name: str, tensor: Any) -> None:
        """An output, channels last."""
        found = self._names[id(tensor)]
        if len(tensor.shape) == 4:
            self._node("Transpose", [found], name, perm=(0, 2, 3, 1))
        else:
            self._node("Identity", [found], name)

    def add(self, layer: Any) -> None:
        """A layer.

        Raises:
            InputError: It is not known here.
        """
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        names = [self._names[id(tensor)] for tensor in inputs]
        given = f"{layer.name}:0"
        match type(layer).__name__:
            case "Conv2D" | "DepthwiseConv2D":
                self._convolution(layer, names, given)
            case "BatchNormalization" if layer.center and layer.scale:
                statistics = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
                fitted = [self._weight(f"{given}{index}", value.numpy()) for index, value in enumerate(statistics)]
                self._node("BatchNormalization", [*names, *fitted], given, epsilon=float(layer.epsilon))
            case "ReLU" if layer.max_value is not None and not layer.negative_slope and not layer.threshold:
                bounds = [self._weight(f"{given}{end}", end) for end in (0.0, float(layer.max_value))]
                self._node("Clip", [*names, *bounds], given)
            case "Add" if len(names) == 2:
                self._node("Add", names, given)
            case "GlobalAveragePooling2D" if not layer.keepdims:
                self._node("ReduceMean", names, given, axes=(2, 3), keepdims=0)
            case "SpatialDropout2D" | "Dropout":
                self._node("Identity", names, given)
            case kind:
                raise InputError(f"an ONNX twin knows no layer such as {layer.name} ({kind}, as it is set)")
        self._names[id(layer.output)] = given

    def _convolution(self, layer: Any, names: list[str], given: str) -> None:
        if layer.activation.__name__ != "linear":
            raise InputError(f"an ONNX twin takes no activation inside a convolution, as {layer.name} has")
        depthwise = type(layer).__name__ == "DepthwiseConv2D"
        kernel = (layer.depthwise_kernel if depthwise else layer.kernel).numpy()  # [h, w, in, out or multiplier]
        kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
        channels = int(layer.input.shape[-1])
        if depthwise:
            kernel = kernel.reshape(-1, 1, *kernel.shape[2:])
        names = [*names, self._weight(f"{given}kernel", kernel)]
        if layer.use_bias:
            names.append(self._weight(f"{given}bias", layer.bias.numpy()))
        self._node(
            "Conv",
            names,
            given,
            strides=layer.strides,
            dilations=layer.dilation_rate,
            group=channels if depthwise else layer.groups,
            pads=_padding(layer),
        )

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def _weight(self, name: str, value: NDArray[np.float32] | float) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name


def _padding(layer: Any) -> list[int]:
    """Rows above, columns before, rows below, columns after: `same` puts an odd one below and after."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    before, after = [], []
    for size, kernel, stride, dilation in zip(
        layer.input.shape[1:3], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return [*before, *after]
