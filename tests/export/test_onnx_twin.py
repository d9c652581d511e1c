"""The ONNX twin: the same answers in ONNX Runtime as float TFLite gives, and what it says of itself."""

import builtins
import json

import numpy as np
import pytest

from slimscan_edge.errors import InputError, InterpreterError, MissingExtraError
from slimscan_edge.files import image_files
from slimscan_edge.preprocess import PreprocessSpec, preprocess
from slimscan_export.convert import convert, saved_model
from slimscan_export.onnx_twin import (
    LARGEST_DIFFERENCE,
    OPSET,
    onnx_difference,
    onnx_twin,
    require_onnx,
    require_parity,
    run_properties,
)
from slimscan_train.model import ModelConfig, build_model
from slimscan_train.phantom import draw_phantom

pytest.importorskip("onnxruntime", reason="the onnx extra is not installed; run: make venv")
pytestmark = pytest.mark.slow

SPEC = PreprocessSpec(height=97, width=66, intensity="percentile")  # odd sizes: `same` pads unequally


@pytest.fixture(scope="module")
def full_network():
    """The whole network with two logits, its normalisation far from the identity that it starts as."""
    model = build_model(ModelConfig(width=0.5, outputs=2), SPEC.height, SPEC.width, seed=3)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name.endswith("_bn"):
            ranges = {"gamma": (0.5, 2.0), "beta": (-0.3, 1.0), "mean": (-0.3, 0.3), "variance": (0.05, 0.3)}
            layer.set_weights([rng.uniform(low, high, layer.gamma.shape) for low, high in ranges.values()])
    return model


@pytest.fixture(scope="module")
def full_tflite(full_network):
    with saved_model(full_network) as saved:
        return convert(saved, "float32")


@pytest.fixture(scope="module")
def full_twin(full_network):
    return onnx_twin(full_network, {})


def session(twin: bytes):
    import onnxruntime

    return onnxruntime.InferenceSession(twin, providers=["CPUExecutionProvider"])


def phantoms() -> np.ndarray:
    drawn = [
        draw_phantom(np.random.default_rng(seed), subtype=subtype, height=236, width=204)
        for seed, subtype in enumerate(("normal", "bacteria", "virus"))
    ]
    return np.stack([preprocess(picture, SPEC) for picture in drawn])


def test_onnx_answers_as_float_tflite_on_phantoms(full_twin, full_tflite):
    pixels = phantoms()
    answered = session(full_twin).run(["logits"], {"pixels": pixels})[0]
    assert np.ptp(answered, axis=0).min() > 1000 * LARGEST_DIFFERENCE  # it tells the pictures apart
    assert require_parity(full_twin, full_tflite, pixels) <= LARGEST_DIFFERENCE


def test_onnx_answers_as_float_tflite_on_real_xrays(full_twin, full_tflite, shared_data):
    pixels = np.stack([preprocess(path, SPEC) for path in image_files([shared_data / "chest_xray_fullsize"])[::12]])
    assert onnx_difference(full_twin, full_tflite, pixels) <= LARGEST_DIFFERENCE


def test_a_trained_run_answers_in_onnx_on_its_validation_images(exported):
    twin = onnx_twin(exported.model, run_properties(exported.run))
    assert onnx_difference(twin, exported.variants["float32"], exported.pixels) <= LARGEST_DIFFERENCE


def test_raw_pixels_of_any_number_of_images_go_in_and_logits_and_the_map_come_out(full_twin):
    loaded = session(full_twin)
    (taken,) = loaded.get_inputs()
    assert (taken.name, taken.type, taken.shape) == ("pixels", "tensor(uint8)", ["N", SPEC.height, SPEC.width, 1])
    pixels = phantoms()
    logits, evidence = loaded.run(["logits", "evidence"], {"pixels": pixels})
    assert (logits.shape, evidence.shape) == ((3, 2), (3, 4, 3, 2))
    assert np.allclose(evidence.mean((1, 2)), logits, atol=LARGEST_DIFFERENCE)


def test_a_network_narrower_in_single_layers_converts(full_tflite):
    import tf_keras

    def narrower(layer):
        config = layer.get_config()
        if layer.name in ("block0_pointwise", "block3_pointwise", "block4_pointwise"):
            config["filters"] = {"block0_pointwise": 7}.get(layer.name, 29)
        return layer.__class__.from_config(config)

    tf_keras.utils.set_random_seed(0)
    whole = build_model(ModelConfig(width=0.5, outputs=2), SPEC.height, SPEC.width)
    model = tf_keras.models.clone_model(whole, clone_function=narrower)
    assert model.count_params() < whole.count_params()
    with saved_model(model) as saved:
        assert onnx_difference(onnx_twin(model, {}), convert(saved, "float32"), phantoms()) <= LARGEST_DIFFERENCE


def test_it_says_what_it_is(exported):
    import onnx

    proto = onnx.load_from_string(onnx_twin(exported.model, run_properties(exported.run)))
    said = {entry.key: entry.value for entry in proto.metadata_props}
    run = exported.run
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
    assert json.loads(said["labels"]) == list(run.split.labels)
    assert json.loads(said["preprocess"])["height"] == run.config.preprocess.height
    assert json.loads(said["operating_point"])["threshold"] == run.operating_point.threshold
    assert {"licence", "attribution"} <= set(json.loads(said["training_data"]))
    assert "Not a medical device" in said["intended_use"]


def test_a_twin_of_other_weights_is_refused(full_network, full_tflite):
    other = build_model(ModelConfig(width=0.5, outputs=2), SPEC.height, SPEC.width, seed=4)
    with pytest.raises(InterpreterError, match=r"the ONNX twin differs from float TFLite by"):
        require_parity(onnx_twin(other, {}), full_tflite, phantoms())


@pytest.mark.parametrize(
    "layers",
    [
        [("MaxPooling2D", {})],
        [("ReLU", {})],
        [("ReLU", {"max_value": 6.0, "negative_slope": 0.1})],
        [("BatchNormalization", {"center": False})],
    ],
)
def test_a_layer_that_is_not_known_is_refused_by_name(layers):
    import tf_keras

    pixels = tf_keras.layers.Input((8, 8, 1))
    x = pixels
    for kind, settings in layers:
        x = getattr(tf_keras.layers, kind)(name="odd", **settings)(x)
    evidence = tf_keras.layers.Conv2D(1, 1)(x)
    model = tf_keras.Model(pixels, [tf_keras.layers.GlobalAveragePooling2D()(evidence), evidence])
    with pytest.raises(InputError, match=rf"knows no layer such as odd \({layers[0][0]}"):
        onnx_twin(model, {})


def test_an_activation_inside_a_convolution_is_refused():
    import tf_keras

    pixels = tf_keras.layers.Input((8, 8, 1))
    evidence = tf_keras.layers.Conv2D(1, 1, activation="tanh", name="odd")(pixels)
    model = tf_keras.Model(pixels, [tf_keras.layers.GlobalAveragePooling2D()(evidence), evidence])
    with pytest.raises(InputError, match="as odd has"):
        onnx_twin(model, {})


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
def test_without_the_extra_the_pip_line_is_told(absent, monkeypatch):
    real_import = builtins.__import__

    def without(name, *rest, **more):
        if name == absent:
            raise ModuleNotFoundError(f"No module named {absent!r}", name=absent)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=rf"\({absent} is not installed\); run: pip install 'slimscan\[onnx\]'"):
        require_onnx()
