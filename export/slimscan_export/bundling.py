"""From a compressed model and its gates to a bundle."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from slimscan_edge.bundle import (
    CARD,
    GUARD,
    MODEL,
    Bundle,
    GateResult,
    Manifest,
    Verdict,
    pack_bundle,
    parse_bundle,
)
from slimscan_edge.classifier import Classifier
from slimscan_edge.golden import EXPECTED, golden_outputs, require_self_test
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.operating_point import OperatingPoint
from slimscan_export.convert import output_roles
from slimscan_export.guarding import fit_guard, guard_json
from slimscan_export.provenance import intended_use, tool_versions, training_data
from slimscan_export.summary import SetSummary, in_other_surroundings
from slimscan_train.phantom import Subtype, draw_phantom
from slimscan_train.report import render
from slimscan_train.run import Run

TEMPLATES = Path(__file__).parent / "templates"
GOLDEN: tuple[tuple[Subtype, int, int], ...] = (("normal", 236, 204), ("bacteria", 118, 102))
"""Phantom, height and width of each golden image."""
GOLDEN_STEP = 24
"""Between its grey levels, of 256."""


def make_bundle(
    run: Run,
    model: bytes,
    point: OperatingPoint,
    gates: tuple[GateResult, ...],
    verdict: Verdict,
    *,
    name: str,
    model_version: str,
    sets: tuple[SetSummary, ...] = (),
    shifts: tuple[SetSummary, ...] = (),
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
        sets: The float model against the int8 one on held-out patients, for the card; of a model that was not held
            against any, none.
        shifts: The same under each named shift.

    Returns:
        The bundle, verified in memory.

    Raises:
        BundleError: The name or version is not allowed.
        InputError: An image that the guard is fitted on can no longer be read.
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
        training_data=training_data(run),
        intended_use=intended_use(run),
        tools=tool_versions(),
    )
    members = {MODEL: model, CARD: _card(manifest, sets, shifts).encode(), **_golden_images()}
    answered = Classifier(parse_bundle(pack_bundle(manifest, members), name=manifest.bundle_id))
    expected = {image: golden_outputs(answered, content) for image, content in _golden_images().items()}
    if guard := fit_guard(run, answered):
        members[GUARD] = guard_json(guard)
    members[EXPECTED] = (json.dumps(expected) + "\n").encode()
    bundle = parse_bundle(pack_bundle(manifest, members), name=manifest.bundle_id)
    require_self_test(Classifier(bundle))
    return bundle


def _golden_images() -> dict[str, bytes]:
    """A healthy phantom and a diseased one as PNG, in few grey levels, since a bundle is carried on small cards.

    One is larger than usual inputs and one smaller, so that the self-test sees both ways of resizing.
    """
    images = {}
    for seed, (subtype, height, width) in enumerate(GOLDEN):
        pixels = draw_phantom(np.random.default_rng(seed), subtype=subtype, height=height, width=width)
        file = io.BytesIO()
        Image.fromarray(pixels // GOLDEN_STEP * GOLDEN_STEP).save(file, "PNG", optimize=True)
        images[f"golden/phantom-{seed}.png"] = file.getvalue()
    return images


def _card(manifest: Manifest, sets: tuple[SetSummary, ...], shifts: tuple[SetSummary, ...]) -> str:
    """The model card: one self-contained page, the same for the same bundle."""
    return render(
        TEMPLATES / "card.html", manifest=manifest, sets=sets, shifts=shifts, swapped=in_other_surroundings(shifts)
    )
