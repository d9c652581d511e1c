"""What a `.tflite` file costs whatever it runs on: multiply-accumulates by operator, and the zeros in its kernels.

Counted are those of convolutions and fully connected layers for one image. Norms are folded into them by the
conversion; sums, activations and pooling cost a percent beside them and are left out, as is usual.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import InputError


def tflite_macs(model: bytes) -> dict[str, int]:
    """Multiply-accumulates of one image, by the name of the tensor that an operator of a `.tflite` file makes."""
    file = _File(model)
    found: dict[str, int] = {}
    for operator, kernel in file.weighted_operators():
        output = file.tensor(operator.outputs[0])
        positions = int(np.prod(output.shape[1:-1]))  # none of a fully connected layer: 1
        found[output.name.decode()] = positions * int(np.prod(kernel.shape))
    return found


def tflite_sparsity(model: bytes) -> float:
    """Share of zeros among the kernels of a `.tflite` file as it is stored, 0 to 1.

    Raises:
        InputError: It has no kernels.
    """
    file = _File(model)
    kernels = [file.values(kernel) for _, kernel in file.weighted_operators()]
    if not kernels:
        raise InputError("the model has neither convolutions nor fully connected layers, expected at least one")
    return float(sum((kernel == 0).sum() for kernel in kernels) / sum(kernel.size for kernel in kernels))


class _File:
    """A `.tflite` file taken apart, as far as its kernels go."""

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._builtin = schema.BuiltinOperator
        self._content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        self._graph = self._content.subgraphs[0]
        self._names = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}

    def tensor(self, index: int) -> Any:
        return self._graph.tensors[index]

    def weighted_operators(self) -> list[tuple[Any, Any]]:
        """Each operator that multiplies, with the tensor of its constant kernel."""
        weighted = {self._builtin.CONV_2D, self._builtin.DEPTHWISE_CONV_2D, self._builtin.FULLY_CONNECTED}
        unpacked = {
            operator.outputs[0]: operator.inputs[0]
            for operator in self._graph.operators
            if self._code(operator) == self._builtin.DEQUANTIZE
        }  # float16 kernels are unpacked by an operator of their own
        found = [operator for operator in self._graph.operators if self._code(operator) in weighted]
        return [(operator, self.tensor(unpacked.get(operator.inputs[1], operator.inputs[1]))) for operator in found]

    def values(self, tensor: Any) -> NDArray[Any]:
        """The integers or floats of a constant tensor; int4 and the like are not made here."""
        dtype = np.dtype(self._names[tensor.type].lower())
        return np.frombuffer(np.asarray(self._content.buffers[tensor.buffer].data, np.uint8).tobytes(), dtype)

    def _code(self, operator: Any) -> int:
        code: int = self._content.operatorCodes[operator.opcodeIndex].builtinCode
        return code
