"""Models joined end to end answer as one after the other."""

import numpy as np
import pytest

from slimscan_edge.errors import InputError
from slimscan_edge.interpreter import Interpreter
from slimscan_export.splice import splice

pytestmark = pytest.mark.slow


def converted(compute, shape, dtype):
    import tensorflow as tf

    function = tf.function(compute, input_signature=[tf.TensorSpec(shape, dtype)])
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function).convert()


def run(model, values):
    return Interpreter(model, threads=1).invoke(values)


@pytest.fixture(scope="module")
def doubling():
    return converted(lambda x: x * 2.0, (1, 3), "float32")


@pytest.fixture(scope="module")
def adding():
    weights = np.float32([[1, 0], [0, 1], [1, 1]])
    return converted(lambda x: x @ weights + np.float32([10, 20]), (1, 3), "float32")


def test_the_second_model_sees_what_the_first_one_gives(doubling, adding):
    values = np.float32([[1, 2, 3]])
    assert run(splice(doubling, adding), values)[0].tolist() == [[18.0, 30.0]]
    assert run(splice(splice(doubling, doubling), adding), values)[0].tolist() == [[26.0, 40.0]]


def test_the_output_that_is_named_goes_on_and_the_others_are_dropped(doubling):
    two = converted(lambda x: (x + 1.0, x + 100.0), (1, 3), "float32")
    values = np.float32([[1, 2, 3]])
    given = [output.tolist() for output in run(two, values)]
    for index, output in enumerate(given):
        joined = run(splice(two, doubling, output=index), values)
        assert [answer.tolist() for answer in joined] == [(2 * np.array(output)).tolist()]


def test_quantised_logits_are_dequantised_for_a_float_model(golden_bundle):
    manifest = golden_bundle.manifest
    at = manifest.output_roles.index("logits")
    negated = converted(lambda x: -x, manifest.outputs[at].shape, "float32")
    joined = splice(golden_bundle.model, negated, output=at)
    grey = np.full((1, 32, 32, 1), 90, np.uint8)
    logits = manifest.outputs[at].real_values(run(golden_bundle.model, grey)[at])
    assert logits.any()
    assert np.array_equal(run(joined, grey)[0], -logits)


def test_plain_integers_take_on_the_scale_of_the_model_behind(golden_bundle):
    import tensorflow as tf

    shape = golden_bundle.manifest.input.shape
    inverted = converted(lambda x: tf.cast(255.0 - tf.cast(x, tf.float32), tf.uint8), shape, "uint8")
    dark, bright = (np.full((1, 32, 32, 1), level, np.uint8) for level in (40, 215))
    joined = splice(inverted, golden_bundle.model)
    expected, found = run(golden_bundle.model, bright), run(joined, dark)
    assert all(np.array_equal(left, right) for left, right in zip(expected, found, strict=True))
    assert not np.array_equal(found[0], run(golden_bundle.model, dark)[0])


def test_tensors_of_other_shapes_or_types_are_not_joined(doubling, adding, golden_bundle):
    with pytest.raises(InputError, match=r"an output \[1, 2\] meets an input \[1, 3\]"):
        splice(adding, doubling)
    floats = converted(lambda x: x * 2.0, (1, 32, 32, 1), "float32")
    with pytest.raises(InputError, match="an output of type 0 meets an input of type 3"):
        splice(floats, golden_bundle.model)
