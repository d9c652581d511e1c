"""From a compressed model and its gates to a bundle."""

import html
import io
import json
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image

from slimscan_edge.bundle import (
    CARD,
    MODEL,
    Bundle,
    GateResult,
    Manifest,
    Verdict,
    pack_bundle,
    parse_bundle,
)
from slimscan_edge.classifier import NOT_A_MEDICAL_DEVICE, Classifier
from slimscan_edge.golden import EXPECTED, golden_outputs, require_self_test
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.operating_point import OperatingPoint
from slimscan_export.convert import output_roles
from slimscan_train.phantom import Subtype, draw_phantom
from slimscan_train.run import Run

INTENDED_USE = (
    "Research and education: a second look at frontal chest X-rays of children, by people trained to read them. "
    "Not for diagnosis, not for adults, not for other views or devices than those it was validated on. "
    + NOT_A_MEDICAL_DEVICE
)
KERMANY = {
    "description": "Paediatric chest X-rays, antero-posterior, ages one to five, "
    "Guangzhou Women and Children's Medical Center",
    "attribution": "Kermany, Zhang, Goldbaum: Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images "
    "for Classification, Mendeley Data, doi 10.17632/rscbjbr9sj; Kermany et al., Cell 172 (2018) 1122-1131",
    "licence": "CC BY 4.0",
}
UNDECLARED = {
    "description": "a data set of the user's own",
    "attribution": "not declared",
    "licence": "not declared",
}
_TOOLS = ("slimscan", "tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert", "numpy", "pillow")


def make_bundle(
    run: Run,
    model: bytes,
    point: OperatingPoint,
    gates: tuple[GateResult, ...],
    verdict: Verdict,
    *,
    name: str,
    model_version: str,
) -> Bundle:
    """Put a bundle together and prove it: read back, loaded, and its golden images answered.

    Args:
        run: The run that the model comes from.
        model: The int8 `.tflite` file.
        point: Its locked operating point.
        gates: What was decided.
        verdict: Of all gates together.
        name: Name of the bundle.
        model_version: Semantic version.

    Returns:
        The bundle, verified in memory.

    Raises:
        BundleError: The name or version is not allowed.
        InterpreterError: The model does not load here, or does not reproduce its own golden outputs.
    """
    interpreter = Interpreter(model)
    manifest = Manifest(
        name=name,
        version=model_version,
        labels=run.split.labels,
        subtypes=run.split.subtypes if run.config.model.outputs == 2 else (),
        input=interpreter.input,
        outputs=interpreter.outputs,
        output_roles=output_roles(interpreter),
        preprocess=run.config.preprocess,
        operating_point=point,
        verdict=verdict,
        gates=gates,
        training_data={**(KERMANY if run.split.naming == "kermany" else UNDECLARED), "split": run.split.describe()},
        intended_use=INTENDED_USE,
        tools={tool: version(tool) for tool in _TOOLS},
    )
    members = {MODEL: model, CARD: _card(manifest).encode(), **_golden_images()}
    answered = Classifier(parse_bundle(pack_bundle(manifest, members), name=manifest.bundle_id))
    expected = {image: golden_outputs(answered, content) for image, content in _golden_images().items()}
    members[EXPECTED] = (json.dumps(expected) + "\n").encode()
    bundle = parse_bundle(pack_bundle(manifest, members), name=manifest.bundle_id)
    require_self_test(Classifier(bundle))
    return bundle


def _golden_images() -> dict[str, bytes]:
    """A healthy phantom and a diseased one as PNG, of another size than any input so that resizing is tested too."""
    images = {}
    subtypes: tuple[Subtype, ...] = ("normal", "bacteria")
    for seed, subtype in enumerate(subtypes):
        pixels = draw_phantom(np.random.default_rng(seed), subtype=subtype, height=236, width=204)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
        images[f"golden/phantom-{seed}.png"] = file.getvalue()
    return images


def _card(manifest: Manifest) -> str:
    """The model card: one self-contained page."""
    point = manifest.operating_point

    def rows(pairs: list[tuple[str, Any]]) -> str:
        return "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in pairs)

    facts = rows(
        [
            ("verdict", manifest.verdict),
            ("labels", " / ".join(manifest.labels)),
            ("threshold", f"{point.threshold:.4f} at temperature {point.temperature:.3f}"),
            ("chosen on", f"{point.chosen_on}, for a sensitivity of {point.target_sensitivity:.2f}"),
            *manifest.training_data.items(),
        ]
    )
    gates = rows([(f"{g.name}: {g.verdict}", f"{g.measured} (allowed: {g.allowed})") for g in manifest.gates])
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(manifest.bundle_id)}</title>"
        "<style>body{font:16px/1.5 sans-serif;max-width:45em;margin:auto;padding:1em}"
        "th{text-align:left;vertical-align:top;padding-right:1em}</style>"
        f"<h1>{html.escape(manifest.bundle_id)}</h1><p><strong>{NOT_A_MEDICAL_DEVICE}</strong></p>"
        f"<p>{html.escape(manifest.intended_use)}</p><table>{facts}</table><h2>Gates</h2><table>{gates}</table></html>\n"
    )
