"""Joining TFLite models end to end, so that a network that was judged runs on unchanged inside a larger graph."""

from typing import Any

import flatbuffers

from slimscan_bench.tflite_file import FILE_IDENTIFIER
from slimscan_edge.errors import InputError
from slimscan_export.compaction import compact

NO_TENSOR = -1
"""How an operator's absent optional input is written."""


def splice(first: bytes, second: bytes, *, output: int = 0) -> bytes:
    """Feed one output of a model to the input of another.

    Weights, quantisation and operators stay what they were; integers that meet a float input are dequantised in
    between. The first model's other outputs, and both models' signatures and metadata, are dropped.

    Args:
        first: A `.tflite` file.
        second: A `.tflite` file with one input.
        output: Index of the first model's output that goes on.

    Returns:
        The bytes of a `.tflite` file with the first model's inputs and the second's outputs.

    Raises:
        InputError: The two tensors differ in shape, or in a type that cannot be brought together.
    """
    joined, added = unpacked(first), unpacked(second)
    graph, following = joined.subgraphs[0], added.subgraphs[0]
    (entry,) = (int(index) for index in following.inputs)
    place = {NO_TENSOR: NO_TENSOR, entry: _meeting(joined, int(graph.outputs[output]), following.tensors[entry])}
    first_buffer = len(joined.buffers)
    joined.buffers.extend(added.buffers)
    for index, tensor in enumerate(following.tensors):
        if index != entry:
            tensor.buffer += first_buffer
            place[index] = _add_tensor(joined, tensor)
    for operator in following.operators:
        operator.opcodeIndex = _operator_code(joined, added.operatorCodes[operator.opcodeIndex])
        operator.inputs = [place[int(index)] for index in operator.inputs]
        operator.outputs = [place[int(index)] for index in operator.outputs]
        graph.operators.append(operator)
    graph.outputs = [place[int(index)] for index in following.outputs]
    joined.signatureDefs, joined.metadata, joined.metadataBuffer = None, None, None
    return packed(joined)


def unpacked(model: bytes) -> Any:
    """A model as the schema's objects."""
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))


def packed(model: Any) -> bytes:
    """The bytes of a `.tflite` file from the schema's objects."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return compact(bytes(builder.Output()))


def _meeting(joined: Any, left: int, right: Any) -> int:
    """Index of the tensor in `joined` that stands for `right`: `left` itself, or what it is dequantised to."""
    from tensorflow.lite.python import schema_py_generated as schema

    tensor = joined.subgraphs[0].tensors[left]
    sizes = [[int(size) for size in met.shape] for met in (tensor, right)]
    if sizes[0] != sizes[1]:
        raise InputError(f"models cannot be joined: an output {sizes[0]} meets an input {sizes[1]}")
    if tensor.type == right.type:
        if tensor.quantization is None or tensor.quantization.scale is None:
            tensor.quantization = right.quantization  # plain integers take on the meaning that is given to them here
        return left
    integers = (schema.TensorType.INT8, schema.TensorType.INT16, schema.TensorType.UINT8)
    if right.type != schema.TensorType.FLOAT32 or tensor.type not in integers:
        raise InputError(
            f"models cannot be joined: an output of type {tensor.type} meets an input of type {right.type}"
        )
    return _dequantise(joined, left)


def _dequantise(joined: Any, left: int) -> int:
    """Append an operator that dequantises a tensor; the index of its result."""
    from tensorflow.lite.python import schema_py_generated as schema

    graph = joined.subgraphs[0]
    real = schema.TensorT()
    real.shape, real.type, real.name = graph.tensors[left].shape, schema.TensorType.FLOAT32, b"dequantised"
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3  # the first that takes int16
    operator = schema.OperatorT()
    operator.opcodeIndex = _operator_code(joined, code)
    operator.inputs, operator.outputs = [left], [_add_tensor(joined, real)]
    graph.operators.append(operator)
    return len(graph.tensors) - 1


def _add_tensor(joined: Any, tensor: Any) -> int:
    tensors = joined.subgraphs[0].tensors
    tensors.append(tensor)
    return len(tensors) - 1


def _operator_code(joined: Any, wanted: Any) -> int:
    """Index of an operator code, which is added when it is new."""

    def key(code: Any) -> tuple[Any, ...]:
        return (max(code.builtinCode, code.deprecatedBuiltinCode), code.customCode, code.version)

    codes = joined.operatorCodes
    if key(wanted) not in map(key, codes):
        codes.append(wanted)
    return [key(code) for code in codes].index(key(wanted))
