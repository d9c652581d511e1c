"""The twin for phones and browsers: the bundle's own network behind what MediaPipe Tasks gives and takes.

MediaPipe's image classifier resizes a picture to the model's input itself, gives RGB, and takes one score a label. So
around the bundle's network, whose operators and integers stay as they were judged, lie

- before it: grey as Pillow makes it, the mean of `OVERSAMPLE` x `OVERSAMPLE` pixels, and the bundle's intensity
  normalisation, all in TFLite's built-in operators;
- after it: the operating point, and a softmax over the two labels.

MediaPipe resizes by interpolating between the nearest four pixels however much a picture shrinks. An input of twice the
network's size, and the mean over 2 x 2 of its pixels, make up for most of what that does to a full-size X-ray.
"""

import dataclasses
import json
import math
from typing import Any

import numpy as np

from slimscan_edge.bundle import Bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import InputError, InterpreterError
from slimscan_edge.golden import EXPECTED
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PERCENTILES, PreprocessSpec, preprocess
from slimscan_export.splice import splice
from slimscan_export.tflite_metadata import ClassifierMetadata, with_metadata
from slimscan_train.quiet import held_back_stderr

OVERSAMPLE = 2
"""Size of the twin's input as a multiple of the network's."""

LUMA = (19595.0, 38470.0, 7471.0)
"""Red, green and blue in grey, in 65536ths: ITU-R 601-2 luma as Pillow computes it."""

TIE = 1e-4
"""Added to the twin's logit so that a score at the very threshold is positive, as it is for the bundle. One step of an
int8 logit is hundreds of times as much."""

SCORE_TOLERANCE = 1e-4
"""Of a twin's score for the same pixels: the integers are the same, and a softmax in float32 errs by less."""

NOTES = "slimscan.json"
"""What the bundle says of itself, as a file behind the twin."""


def require_stretch(spec: PreprocessSpec) -> None:
    """Refuse a preprocessing that MediaPipe cannot do.

    Raises:
        InputError: Pictures are not simply stretched to the input.
    """
    if spec.fit != "stretch":
        raise InputError(
            f"a mobile twin needs preprocessing with fit = stretch, got {spec.fit}: MediaPipe stretches every picture"
        )


def mobile_twin(bundle: Bundle) -> bytes:
    """Make a bundle's twin and prove it on the golden images.

    Args:
        bundle: Verified.

    Returns:
        A `.tflite` file from uint8 RGB `[1, 2 H, 2 W, 3]` to float32 `[1, 2]`, with metadata and labels.

    Raises:
        InputError: As for `require_stretch`.
        InterpreterError: The twin does not decide as the bundle does.
    """
    manifest = bundle.manifest
    require_stretch(manifest.preprocess)
    logits_at = manifest.output_roles.index("logits")
    logits = manifest.outputs[logits_at].shape[1]
    model = splice(view(manifest.preprocess), bundle.model)
    model = splice(model, decision(manifest.operating_point, logits), output=logits_at)
    twin = with_metadata(model, _metadata(bundle))
    _prove(bundle, twin)
    return twin


def view(spec: PreprocessSpec) -> bytes:
    """What lies before the network.

    Args:
        spec: The bundle's preprocessing.

    Returns:
        A `.tflite` file from uint8 RGB `[1, 2 H, 2 W, 3]` to the network's uint8 `[1, H, W, C]`.
    """
    import tensorflow as tf

    def pixels(rgb: Any) -> Any:
        x = tf.cast(rgb, tf.float32)  # integers below 2 ** 24 from here on: float32 holds each exactly
        if spec.channels == 1:
            x = tf.floor(
                (tf.nn.conv2d(x, np.array(LUMA, np.float32).reshape(1, 1, 3, 1), 1, "VALID") + 32768.0) / 65536.0
            )
        x = tf.round(tf.nn.avg_pool2d(x, OVERSAMPLE, OVERSAMPLE, "VALID"))
        return tf.cast(_stretched(x) if spec.intensity == "percentile" else x, tf.uint8)

    return _converted(pixels, (1, OVERSAMPLE * spec.height, OVERSAMPLE * spec.width, 3), "uint8")


def decision(point: OperatingPoint, logits: int) -> bytes:
    """What lies behind the network.

    A top label changes at a score of 0.5 and the bundle's decision at its threshold, so the positive label's logit is
    the calibrated one less the threshold's: with p the bundle's probability, t its threshold and s the score,
    `logit(s) = logit(p) - logit(t)`.

    Args:
        point: The bundle's operating point.
        logits: How many the network gives; the first decides.

    Returns:
        A `.tflite` file from float32 `[1, logits]` to float32 `[1, 2]`: scores of the negative and the positive label.
    """
    import tensorflow as tf

    weights = np.zeros((logits, 2), np.float32)
    weights[0, 1] = 1.0 / point.temperature
    offset = np.array([0.0, TIE - point.logit_threshold / point.temperature], np.float32)
    return _converted(lambda x: tf.nn.softmax(tf.matmul(x, weights) + offset), (1, logits), "float32")


def twin_score(point: OperatingPoint, logit: float) -> float:
    """The score of the positive label that a twin gives for a logit of the bundle's network."""
    return 1.0 / (1.0 + math.exp((point.logit_threshold - logit) / point.temperature - TIE))


def _stretched(x: Any) -> Any:
    """Map the grey levels at `PERCENTILES` to 0 and 255, as `slimscan_edge.preprocess` does by a histogram.

    The level at a percentile is the smallest that a share of the pixels does not exceed: the last of the so many
    smallest or largest pixels, which TFLite finds by its operator for the top k.
    """
    import tensorflow as tf

    flat = tf.reshape(x, [-1])
    size = int(flat.shape[0])
    below, above = (math.ceil(share / 100.0 * size) for share in PERCENTILES)
    low = -tf.math.top_k(-flat, below)[0][-1]
    high = tf.math.top_k(flat, size - above + 1)[0][-1]
    levels = tf.round(tf.clip_by_value((x - low) * 255.0 / tf.maximum(high - low, 1.0), 0.0, 255.0))
    return tf.where(high > low, levels, x)


def _converted(compute: Any, shape: tuple[int, ...], dtype: str) -> bytes:
    import tensorflow as tf

    function = tf.function(compute, input_signature=[tf.TensorSpec(shape, dtype)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    with held_back_stderr():
        model: bytes = converter.convert()
    return model


def _metadata(bundle: Bundle) -> ClassifierMetadata:
    manifest, point = bundle.manifest, bundle.manifest.operating_point
    negative, positive = manifest.labels
    refer_low, refer_high = _score(point, point.refer_low), _score(point, point.refer_high)
    about = {
        "bundle": manifest.bundle_id,
        "bundle_sha256": bundle.sha256,
        "verdict": manifest.verdict,
        "labels": manifest.labels,
        "score_of_threshold": 0.5,
        "score_of_refer_low": refer_low,
        "score_of_refer_high": refer_high,
        "operating_point": dataclasses.asdict(point),
        "preprocess": dataclasses.asdict(manifest.preprocess),
        "training_data": dict(manifest.training_data),
        "intended_use": manifest.intended_use,
    }
    data = manifest.training_data
    return ClassifierMetadata(
        name=manifest.name,
        version=manifest.version,
        description=f"Twin of the slimscan bundle {manifest.bundle_id} (verdict of its gates: {manifest.verdict}). "
        f"{manifest.intended_use}",
        author="slimscan",
        licence=f"Training data: {data.get('attribution', 'not declared')}. {data.get('licence', 'not declared')}",
        image="A whole X-ray in RGB, grey or not; it is stretched to the input, and its grey levels are normalised "
        "inside the model.",
        scores=f"{negative} and {positive}; they sum to 1. The top label is on the bundle's side of its threshold: a "
        f"score of 0.5 stands for the calibrated probability {point.threshold:.6f}. With s the score of {positive}, "
        f"that probability is 1 / (1 + exp(-(ln(s / (1 - s)) {_logit(point.threshold):+.6f}))). The bundle refers "
        f"a case to a person when s is from {refer_low:.4f} up to {refer_high:.4f}.",
        labels=manifest.labels,
        notes={NOTES: (json.dumps(about, indent=1) + "\n").encode()},
    )


def _score(point: OperatingPoint, probability: float) -> float:
    """The score that stands for a calibrated probability."""
    if probability in (0.0, 1.0):
        return probability
    return 1.0 / (1.0 + math.exp(_logit(point.threshold) - _logit(probability)))


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))


def _prove(bundle: Bundle, twin: bytes) -> None:
    """Answer the golden images by bundle and twin; an image that is preprocessed already passes the twin's view as is.

    Raises:
        InterpreterError: A score is another than the bundle's.
    """
    classifier, interpreter = Classifier(bundle), Interpreter(twin)
    for name in json.loads(bundle.members[EXPECTED]):
        pixels = preprocess(bundle.members[name], bundle.manifest.preprocess)
        expected = twin_score(bundle.manifest.operating_point, float(classifier.scores(pixels)[0][0]))
        enlarged = pixels.repeat(OVERSAMPLE, 0).repeat(OVERSAMPLE, 1)
        rgb = np.broadcast_to(enlarged, (*enlarged.shape[:2], 3))
        score = float(interpreter.invoke(rgb[np.newaxis])[0][0, 1])
        if abs(score - expected) > SCORE_TOLERANCE:
            raise InterpreterError(
                f"the mobile twin answers {score:.4f} for {name} where {bundle.manifest.bundle_id} answers "
                f"{expected:.4f}; do not use it, install another TensorFlow version"
            )
