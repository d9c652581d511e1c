"""The twin for phones and browsers: what lies around the network, and that it decides as the bundle does."""

import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.bundle import Bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import InputError, InterpreterError
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PreprocessSpec, preprocess
from slimscan_export import mobile
from slimscan_export.mobile import NOTES, OVERSAMPLE, decision, mobile_twin, require_stretch, twin_score, view
from slimscan_export.tflite_metadata import LABELS

pytestmark = pytest.mark.slow

SPEC = PreprocessSpec(height=40, width=30)
STRETCHED = dataclasses.replace(SPEC, intensity="percentile")
POINT = OperatingPoint(
    temperature=0.6, bias=1.5, threshold=0.3, target_sensitivity=0.95, refer_low=0.2, refer_high=0.4, chosen_on="tests"
)


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """`[H, W, 3]` pixels as the twin takes them: each one so many times that its mean is itself."""
    return pixels.repeat(OVERSAMPLE, 0).repeat(OVERSAMPLE, 1)[np.newaxis]


def seen(spec: PreprocessSpec, rgb: np.ndarray) -> np.ndarray:
    return Interpreter(view(spec), threads=1).invoke(enlarged(rgb))[0][0]


def colours(low: int, high: int) -> np.ndarray:
    return np.random.default_rng(low).integers(low, high, (SPEC.height, SPEC.width, 3), dtype=np.uint8)


def test_grey_is_pillows():
    rgb = colours(0, 256)
    assert np.array_equal(seen(SPEC, rgb)[:, :, 0], np.asarray(Image.fromarray(rgb).convert("L")))


def test_a_mean_is_taken_over_what_mediapipe_gives_too_many_of():
    block = np.array([[10, 20], [30, 42]], np.uint8)
    rgb = np.tile(block, (SPEC.height, SPEC.width))[np.newaxis, :, :, np.newaxis].repeat(3, 3)
    assert set(Interpreter(view(SPEC), threads=1).invoke(rgb)[0].ravel()) == {26}  # 25.5, to even


@pytest.mark.parametrize(("low", "high"), [(0, 256), (60, 130), (100, 103)])
def test_grey_levels_are_normalised_as_the_bundle_does(low, high):
    rgb = colours(low, high)
    expected = preprocess(rgb, STRETCHED)
    assert (expected.min(), expected.max()) == (0, 255)
    difference = np.abs(seen(STRETCHED, rgb).astype(int) - expected)
    assert difference.max() <= 1  # a level that falls on a half may be rounded otherwise
    assert (difference == 0).mean() > 0.99


def test_a_picture_of_one_level_stays_what_it_is():
    flat = np.full((SPEC.height, SPEC.width, 3), 77, np.uint8)
    assert set(seen(STRETCHED, flat).ravel()) == {77}


def test_a_network_of_three_channels_sees_the_colours():
    rgb = colours(0, 256)
    assert np.array_equal(seen(dataclasses.replace(SPEC, channels=3), rgb), rgb)


@pytest.mark.parametrize("logits", [1, 2])
def test_scores_are_the_operating_points_with_the_threshold_at_a_half(logits):
    head = Interpreter(decision(POINT, logits), threads=1)
    for logit in np.linspace(-4.0, 3.0, 29):
        values = np.full((1, logits), 9.0, np.float32)
        values[0, 0] = logit
        (negative, positive), *_ = head.invoke(values)[0]
        probability = POINT.probability(float(logit))
        odds = probability / (1 - probability) * (1 - POINT.threshold) / POINT.threshold
        assert positive == pytest.approx(odds / (1 + odds), abs=1e-4)
        assert positive == pytest.approx(twin_score(POINT, float(logit)), abs=1e-6)
        assert negative + positive == pytest.approx(1.0, abs=1e-6)
        assert (positive > negative) == (probability >= POINT.threshold)


def test_a_score_at_the_very_threshold_is_positive():
    head = Interpreter(decision(POINT, 1), threads=1)
    at, below = (np.array([[POINT.logit_threshold - less]], np.float32) for less in (0.0, 0.001))
    assert np.diff(head.invoke(at)[0][0]) > 0
    assert np.diff(head.invoke(below)[0][0]) < 0


@pytest.fixture(scope="module")
def twin(golden_bundle: Bundle) -> bytes:
    return mobile_twin(golden_bundle)


def test_a_twin_takes_rgb_and_gives_two_scores(twin, golden_bundle):
    spec = golden_bundle.manifest.preprocess
    loaded = Interpreter(twin)
    assert (loaded.input.dtype, loaded.input.shape) == ("uint8", (1, 2 * spec.height, 2 * spec.width, 3))
    assert [(spec.dtype, spec.shape) for spec in loaded.outputs] == [("float32", (1, 2))]


def test_a_twin_decides_as_the_bundle_at_every_brightness(twin, golden_bundle):
    classifier, loaded = Classifier(golden_bundle, threads=1), Interpreter(twin, threads=1)
    point = golden_bundle.manifest.operating_point
    labels = set()
    for level in range(0, 256, 5):
        grey = np.full((32, 32, 1), level, np.uint8)
        logit = float(classifier.scores(preprocess(grey, golden_bundle.manifest.preprocess))[0][0])
        negative, positive = loaded.invoke(enlarged(grey.repeat(3, 2)))[0][0]
        assert positive == pytest.approx(twin_score(point, logit), abs=1e-5)
        assert (positive > negative) == (point.probability(logit) >= point.threshold)
        labels.add(positive > negative)
    assert len(labels) == 2


def test_labels_and_what_the_bundle_says_lie_behind_the_model(twin, golden_bundle):
    manifest, point = golden_bundle.manifest, golden_bundle.manifest.operating_point
    with zipfile.ZipFile(io.BytesIO(twin)) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read(LABELS).decode().split("\n") == list(manifest.labels)
        notes = json.loads(archive.read(NOTES))
    assert notes["bundle_sha256"] == golden_bundle.sha256
    assert notes["operating_point"]["threshold"] == point.threshold
    assert notes["score_of_refer_low"] <= notes["score_of_threshold"] == 0.5 <= notes["score_of_refer_high"]


def test_the_same_bundle_gives_the_same_twin(twin, golden_bundle):
    assert mobile_twin(golden_bundle) == twin


def test_a_twin_that_decides_otherwise_is_refused(golden_bundle, monkeypatch):
    other = dataclasses.replace(golden_bundle.manifest.operating_point, bias=1.0)
    right = mobile.decision
    monkeypatch.setattr(mobile, "decision", lambda _, logits: right(other, logits))
    with pytest.raises(InterpreterError, match="the mobile twin answers"):
        mobile_twin(golden_bundle)


@pytest.mark.parametrize("fit", ["letterbox", "crop"])
def test_what_mediapipe_cannot_do_is_refused(fit):
    with pytest.raises(InputError, match=f"needs preprocessing with fit = stretch, got {fit}"):
        require_stretch(dataclasses.replace(SPEC, fit=fit))
