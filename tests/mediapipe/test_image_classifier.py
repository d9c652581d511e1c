"""MediaPipe Tasks loads the mobile twin of the reference bundle unchanged, and decides as `slimscan predict` does."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.bundle import read_bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.files import image_files
from slimscan_edge.locate import locate_bundle
from slimscan_export.mobile import mobile_twin, twin_score
from slimscan_export.splice import unpacked
from slimscan_train.phantom import draw_phantom

pytestmark = pytest.mark.slow

XRAYS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One picture: the bundle's label, MediaPipe's top label, and the positive label's score of either."""

    label: str
    top: str
    expected: float
    score: float


@pytest.fixture(scope="module")
def reference() -> Classifier:
    return Classifier(read_bundle(locate_bundle(None).path), threads=1)


@pytest.fixture(scope="module")
def twin(mediapipe_python: Path, reference: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin") / "twin.tflite"
    path.write_bytes(mobile_twin(reference.bundle))
    return path


@pytest.fixture(scope="module")
def say(mediapipe_python: Path) -> Callable[..., str]:
    def said(script: str, file: Path, words: str = "") -> str:
        command = [mediapipe_python, Path(__file__).with_name(script), file]
        return subprocess.run(command, input=words, text=True, capture_output=True, check=True).stdout

    return said


@pytest.fixture(scope="module")
def compare(say: Callable[..., str], twin: Path, reference: Classifier) -> Callable[[list[Path]], list[Compared]]:
    positive, point = reference.manifest.labels[1], reference.manifest.operating_point

    def compared(paths: list[Path]) -> list[Compared]:
        answers = [json.loads(line) for line in say("classify.py", twin, "\n".join(map(str, paths))).splitlines()]
        findings = [reference.predict(path) for path in paths]
        return [
            Compared(
                label=finding.label,
                top=ranked[0][0],
                expected=twin_score(point, finding.logit),
                score=dict(ranked)[positive],
            )
            for finding, ranked in zip(findings, answers, strict=True)
        ]

    return compared


def test_mediapipes_schema_finds_labels_and_what_the_scores_mean(say, twin, reference, tmp_path):
    model = unpacked(twin.read_bytes())
    (entry,) = model.metadata
    assert entry.name == b"TFLITE_METADATA"
    (tmp_path / "metadata").write_bytes(bytes(model.buffers[entry.buffer].data))
    said = json.loads(say("describe.py", tmp_path / "metadata"))
    manifest, point = reference.manifest, reference.manifest.operating_point
    (graph,) = said["subgraphMetadata"]
    (picture,), (scores,) = graph["inputTensorMetadata"], graph["outputTensorMetadata"]
    rgb, axis_labels = 1, 2
    assert (said["name"], said["version"]) == (manifest.name, manifest.version)
    assert "Not a medical device" in said["description"]
    assert picture["content"]["contentProperties"]["colorSpace"] == rgb
    assert scores["associatedFiles"] == [{"name": "labels.txt", "type": axis_labels}]
    assert f"the calibrated probability {point.threshold:.6f}" in scores["description"]
    assert manifest.training_data["attribution"] in said["license"]


def test_pictures_of_all_sizes_are_answered_as_by_the_bundle(compare, tmp_path):
    paths = []
    for seed, (height, width) in enumerate([(224, 224), (236, 204), (384, 384), (1200, 1500), (90, 120), (700, 300)]):
        drawn = draw_phantom(np.random.default_rng(seed), subtype=("normal", "virus")[seed % 2], height=236, width=204)
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(drawn).resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    found = compare(paths)
    assert [each.score for each in found] == pytest.approx([each.expected for each in found], abs=0.15)
    clear = [each for each in found if abs(each.expected - 0.5) > 0.15]
    assert clear
    assert all(each.top == each.label for each in clear)


@pytest.mark.parametrize(("folder", "least"), [("chest_xray", 0.99), ("chest_xray_fullsize", 0.97)])
def test_mediapipe_decides_as_the_bundle_on_real_xrays(compare, shared_data, folder, least):
    """On full-size files a little less: MediaPipe decodes them in full."""
    files = image_files([shared_data / folder])
    compared = compare(files[:: max(1, len(files) // XRAYS)][:XRAYS])
    found = [each for each in compared if each.label]  # the twin has no guard, which may reject a few
    assert len(found) >= 0.98 * len(compared)
    labels = {each.label for each in found}
    agreement = np.mean([each.top == each.label for each in found])
    assert len(found) >= 100
    assert len(labels) == 2
    assert agreement >= least, f"{agreement:.4f} of {len(found)}"
