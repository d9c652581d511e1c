"""The four precisions of one model: the same contract, and logits within a stated tolerance of Keras."""

import numpy as np
import pytest

from slimscan_bench.models import tflite_score
from slimscan_edge.errors import InputError
from slimscan_edge.interpreter import Interpreter
from slimscan_export import convert
from slimscan_export.convert import PRECISIONS, float_tensors, output_roles, require_full_int8
from slimscan_train.fit import predict_logits

pytestmark = pytest.mark.slow

TOLERANCE = {"float32": 1e-4, "float16": 0.01, "dynamic": 0.1, "int8": 0.1}
"""Largest difference from Keras, as a share of the range of its logits."""


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_agree_with_keras(exported, precision):
    pixels = exported.pixels
    expected = predict_logits(exported.model, pixels)[:, 0]
    found = tflite_score(exported.variants[precision])(pixels)
    assert np.abs(found - expected).max() < TOLERANCE[precision] * np.ptp(expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_takes_raw_pixels_and_gives_logits_and_evidence(exported, precision):
    interpreter = Interpreter(exported.variants[precision])
    assert (interpreter.input.dtype, interpreter.input.shape) == ("uint8", (1, 48, 48, 1))
    shapes = dict(zip(output_roles(interpreter), (spec.shape for spec in interpreter.outputs), strict=True))
    assert shapes == {"logits": (1, 1), "evidence": (1, 2, 2, 1)}


def test_int8_is_int8_throughout_on_the_grid_of_raw_pixels(exported):
    interpreter = Interpreter(exported.variants["int8"])
    assert float_tensors(exported.variants["int8"]) == []
    assert interpreter.input.scale == pytest.approx(1 / 127.5, rel=1e-5)
    assert interpreter.input.zero_point == 128
    assert {spec.dtype for spec in interpreter.outputs} == {"int8"}


def test_smaller_precisions_make_smaller_files(exported):
    sizes = {precision: len(model) for precision, model in exported.variants.items()}
    assert sizes["float32"] > sizes["float16"] > max(sizes["dynamic"], sizes["int8"])


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_evidence_explains_the_logit(exported, precision):
    """The map's mean is the logit, in int8 to within a step of either, or as far as the logit's range goes."""
    interpreter = Interpreter(exported.variants[precision])
    roles, specs = output_roles(interpreter), interpreter.outputs
    logits_at, evidence_at = roles.index("logits"), roles.index("evidence")
    step = max(1e-5, specs[logits_at].scale, specs[evidence_at].scale)
    for image in exported.pixels:
        answered = interpreter.invoke(image[np.newaxis])
        logit = specs[logits_at].real_values(answered[logits_at])[0, 0]
        explained = specs[evidence_at].real_values(answered[evidence_at]).mean()
        if precision == "int8":
            explained = np.clip(explained, *specs[logits_at].real_values(np.array([-128, 127])))
        assert explained == pytest.approx(logit, abs=step)


def test_a_model_with_a_float_tensor_left_is_refused(exported):
    for precision in ("float32", "float16", "dynamic"):
        with pytest.raises(InputError, match="float tensors are left in the int8 model"):
            require_full_int8(exported.variants[precision])


def test_another_input_grid_is_refused(exported, monkeypatch):
    monkeypatch.setattr(convert, "PIXEL_SCALE", 127.0)
    with pytest.raises(InputError, match="raw pixels would be misread"):
        require_full_int8(exported.variants["int8"])


def test_int8_without_calibration_images_is_refused(exported):
    for nothing in (None, exported.calibration[:0]):
        with pytest.raises(InputError, match="quantisation after training needs calibration images, got none"):
            convert._representative(nothing, normalised=True)


def test_calibration_images_are_not_written_on(exported):
    before = exported.calibration.copy()
    next(convert._representative(before, normalised=False)())
    assert np.array_equal(before, exported.calibration)


def test_int16_activations_answer_closer_than_int8_from_the_same_pixels(exported):
    with convert.saved_model(exported.model) as saved:
        file = convert.convert(saved, "int16x8", exported.calibration)
    assert Interpreter(file).input.dtype == "uint8"
    assert output_roles(Interpreter(file)) == output_roles(Interpreter(exported.variants["float32"]))
    expected = predict_logits(exported.model, exported.pixels)[:, 0]
    errors = [
        np.abs(tflite_score(model)(exported.pixels) - expected).mean() for model in (file, exported.variants["int8"])
    ]
    assert errors[0] < 0.8 * errors[1]  # what is left is the weights', which are int8 in both
