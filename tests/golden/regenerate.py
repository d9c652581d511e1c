"""Make `brightness-1.0.0.slimscan`, the smallest bundle that obeys the model contract.

Run with the `export` extra installed: `TF_USE_LEGACY_KERAS=1 python tests/golden/regenerate.py`.

The model has one convolution with weights set by hand, so its answer is known without running it: the evidence
of a 4x4 patch is `GAIN` times the mean of its four middle pixels (as -1 to 1), and the logit is the mean of the
evidence. A bright picture is positive, a dark one negative, mid-grey has logit 0. Only the middle of each patch
counts, so that a changed resize filter shows in the integers.
"""

import io
import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.bundle import Bundle, GateResult, Manifest, pack_bundle, parse_bundle, write_bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.golden import EXPECTED, golden_outputs
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PreprocessSpec

SIZE = 32
PATCH = 4
GAIN = 8.0
GOLDEN_SHAPE = (61, 53)
SEED = 20240229
TARGET = Path(__file__).with_name("brightness-1.0.0.slimscan")


def convert() -> bytes:
    """The int8 model: uint8 `[1, 32, 32, 1]` in, int8 evidence `[1, 8, 8, 1]` and logits `[1, 1]` out."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    from tf_keras import Model, layers

    pixels = layers.Input((SIZE, SIZE, 1), batch_size=1)
    evidence = layers.Conv2D(1, PATCH, strides=PATCH, name="evidence")(pixels)  # [1, 8, 8, 1]
    logits = layers.GlobalAveragePooling2D(name="logits")(evidence)  # [1, 1]
    model = Model(pixels, [logits, evidence])
    kernel = np.zeros((PATCH, PATCH, 1, 1), np.float32)
    kernel[1:3, 1:3] = GAIN / 4.0
    model.get_layer("evidence").set_weights([kernel, np.zeros(1, np.float32)])

    def representative() -> object:
        for level in range(256):
            yield [np.full((1, SIZE, SIZE, 1), (level - 128) / 127.5, np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content


def golden_images() -> dict[str, NDArray[np.uint8]]:
    """Three pictures of 61x53 grey pixels: a bright one, a dark one, and a ramp; all with fine texture."""
    noise = 20 * np.random.default_rng(SEED).integers(-3, 4, (3, *GOLDEN_SHAPE))
    ramp = np.broadcast_to(np.linspace(60, 195, GOLDEN_SHAPE[1]), GOLDEN_SHAPE)
    levels = {"bright": np.full(GOLDEN_SHAPE, 190.0), "dark": np.full(GOLDEN_SHAPE, 64.0), "ramp": ramp}
    return {
        name: np.rint(np.clip(level + grain, 0, 255)).astype(np.uint8)
        for (name, level), grain in zip(levels.items(), noise, strict=True)
    }


def describe(model: bytes) -> Manifest:
    """The manifest that goes with the model."""
    interpreter = Interpreter(model)
    return Manifest(
        name="brightness",
        version="1.0.0",
        labels=("DARK", "BRIGHT"),
        input=interpreter.input,
        outputs=interpreter.outputs,
        output_roles=tuple("evidence" if len(spec.shape) == 4 else "logits" for spec in interpreter.outputs),
        preprocess=PreprocessSpec(height=SIZE, width=SIZE),
        operating_point=OperatingPoint(
            threshold=0.5, target_sensitivity=0.95, refer_low=0.4, refer_high=0.6, chosen_on="set by hand"
        ),
        verdict="PASS",
        gates=(GateResult(name="arithmetic", verdict="PASS", measured="set by hand", allowed="set by hand"),),
        training_data={"description": "none: the weights are set by hand"},
        intended_use="Tests of slimscan. It measures brightness and nothing else.",
        tools={"tensorflow": version("tensorflow")},
    )


def with_golden(manifest: Manifest, model: bytes) -> dict[str, bytes]:
    """The members of the bundle: the model, the golden images, and what this machine answers for them."""
    members = {"model.tflite": model}
    for name, pixels in golden_images().items():
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
        members[f"golden/{name}.png"] = buffer.getvalue()
    bundle: Bundle = parse_bundle(pack_bundle(manifest, members), name=TARGET.name)
    classifier = Classifier(bundle, threads=1)
    answers = {
        name: golden_outputs(classifier, content) for name, content in members.items() if name.startswith("golden/")
    }
    return {**members, EXPECTED: json.dumps(answers).encode()}


def main() -> None:
    """Write the bundle next to this file."""
    model = convert()
    manifest = describe(model)
    digest = write_bundle(TARGET, manifest, with_golden(manifest, model))
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
