import numpy as np
import pytest

from slimscan_edge.bundle import Bundle
from slimscan_edge.interpreter import Interpreter
from slimscan_export.compaction import compact


@pytest.fixture(scope="module")
def model(golden_bundle: Bundle) -> bytes:
    return golden_bundle.model


def test_a_compacted_model_answers_the_same_integers(model: bytes) -> None:
    before, after = Interpreter(model), Interpreter(compact(model))
    assert (before.input, before.outputs) == (after.input, after.outputs)
    rng = np.random.default_rng(0)
    for _ in range(10):
        pixels = rng.integers(0, 256, before.input.shape, dtype=np.uint8)
        for one, other in zip(before.invoke(pixels), after.invoke(pixels), strict=True):
            np.testing.assert_array_equal(one, other)


def test_it_is_not_larger_and_compacting_again_changes_nothing(model: bytes) -> None:
    once = compact(model)
    assert len(once) <= len(model)
    assert compact(once) == once


def test_equal_vectors_are_stored_once(model: bytes) -> None:
    """Two per-channel tensors with zeros for zero points share them, and every tensor still reads its own."""
    from tensorflow.lite.python import schema_py_generated as schema

    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(compact(model), 0))
    original = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    for one, other in zip(content.subgraphs[0].tensors, original.subgraphs[0].tensors, strict=True):
        np.testing.assert_array_equal(one.quantization.zeroPoint, other.quantization.zeroPoint)
        np.testing.assert_array_equal(one.quantization.scale, other.quantization.scale)
