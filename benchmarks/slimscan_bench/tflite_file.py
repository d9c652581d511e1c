"""A `.tflite` file taken apart by the schema that comes with ai-edge-litert, and packed again with less in it."""

import copy
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import MachineError

FILE_IDENTIFIER = b"TFL3"


class TfliteFile:
    """The first graph of a `.tflite` file: its operators, tensors and constants.

    Attributes:
        graph: The schema's `SubGraphT`.
        graphs: How many graphs the file has.
    """

    def __init__(self, model: bytes) -> None:
        """Take a file apart.

        Args:
            model: The bytes of a `.tflite` file that an interpreter takes.

        Raises:
            MachineError: The schema is not installed.
        """
        schema = _schema()
        self._builtin = schema.BuiltinOperator
        self._content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        self._no_buffer = schema.BufferT()
        self.graph = self._content.subgraphs[0]
        self.graphs = len(self._content.subgraphs)
        self._dtypes = _names(schema.TensorType)
        self._kinds = _names(schema.BuiltinOperator)

    def tensor(self, index: int) -> Any:
        """The schema's `TensorT` of an index."""
        return self.graph.tensors[index]

    def kind(self, operator: Any) -> str:
        """Name of an operator in the schema, as `CONV_2D`."""
        return self._kinds[self._code(operator)]

    def weighted_operators(self) -> list[tuple[Any, Any]]:
        """Each operator that multiplies, with the tensor of its constant kernel."""
        weighted = {self._builtin.CONV_2D, self._builtin.DEPTHWISE_CONV_2D, self._builtin.FULLY_CONNECTED}
        unpacked = {
            operator.outputs[0]: operator.inputs[0]
            for operator in self.graph.operators
            if self._code(operator) == self._builtin.DEQUANTIZE
        }  # float16 kernels are unpacked by an operator of their own
        found = [operator for operator in self.graph.operators if self._code(operator) in weighted]
        return [(operator, self.tensor(unpacked.get(operator.inputs[1], operator.inputs[1]))) for operator in found]

    def macs(self) -> dict[int, int]:
        """Multiply-accumulates of one image, by the index of the tensor that an operator makes."""
        found: dict[int, int] = {}
        for operator, kernel in self.weighted_operators():
            made = int(operator.outputs[0])
            positions = int(np.prod(self.tensor(made).shape[1:-1]))  # none of a fully connected layer: 1
            found[made] = positions * int(np.prod(kernel.shape))
        return found

    def values(self, tensor: Any) -> NDArray[Any]:
        """The integers or floats of a constant tensor; int4 and the like are not made here."""
        dtype = np.dtype(self._dtypes[tensor.type].lower())
        return np.frombuffer(np.asarray(self._content.buffers[tensor.buffer].data, np.uint8).tobytes(), dtype)

    def packed(self, kept: Collection[int], outputs: Collection[int]) -> bytes:
        """The bytes of a `.tflite` file with some of the operators; signatures and metadata are dropped.

        Args:
            kept: Indices of operators in the file, with all that they depend on.
            outputs: Indices of the tensors that it gives.
        """
        import flatbuffers

        content, graph = copy.copy(self._content), copy.copy(self.graph)
        graph.operators = [self.graph.operators[index] for index in sorted(kept)]
        graph.outputs = list(outputs)
        content.subgraphs = [graph]
        content.signatureDefs = content.metadata = content.metadataBuffer = None
        used = {self.tensor(k).buffer for operator in graph.operators for k in operator.inputs if k >= 0}
        content.buffers = [
            buffer if index in used else self._no_buffer for index, buffer in enumerate(self._content.buffers)
        ]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(content.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _code(self, operator: Any) -> int:
        code = self._content.operatorCodes[operator.opcodeIndex]
        # Files of before 2020 have the older field only, which ends at 127; the newer one is then 0.
        return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as exc:
        raise MachineError(
            "taking a .tflite model apart needs ai-edge-litert, which is not installed; "
            "run: pip install ai-edge-litert (there is none for 32-bit ARM: do this on a 64-bit machine)"
        ) from exc
    return schema_py_generated
