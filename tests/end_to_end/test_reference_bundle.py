"""The reference bundle that is shipped, as an installation finds it, on real X-rays where they are."""

import json
from pathlib import Path

import pytest

from slimscan_edge.classifier import Classifier
from slimscan_edge.cli import main
from slimscan_edge.errors import ImageError
from slimscan_edge.golden import require_self_test
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.locate import locate_bundle

MOST_BUNDLE_BYTES = 300_000
LEAST_AGREEMENT = 0.95


@pytest.fixture(scope="module")
def reference() -> Classifier:
    return Classifier.load(locate_bundle(None).path)


def test_the_reference_bundle_passed_its_gates_and_its_self_test(reference: Classifier) -> None:
    assert reference.manifest.verdict == "PASS"
    assert {gate.verdict for gate in reference.manifest.gates} == {"PASS"}
    assert require_self_test(reference).images >= 2


def test_the_reference_bundle_is_small_and_takes_raw_pixels(reference: Classifier) -> None:
    assert locate_bundle(None).path.stat().st_size <= MOST_BUNDLE_BYTES
    read = Interpreter(reference.bundle.model)
    assert (read.input.dtype, read.input.zero_point) == ("uint8", 128)
    assert read.input.scale == pytest.approx(1 / 127.5)
    assert {spec.dtype for spec in read.outputs} == {"int8"}


def test_the_reference_bundle_names_its_data_and_is_no_medical_device(reference: Classifier) -> None:
    assert reference.manifest.training_data["licence"] == "CC BY 4.0"
    assert "10.17632/rscbjbr9sj" in reference.manifest.training_data["attribution"]
    assert "Not a medical device" in reference.manifest.intended_use
    assert b"Not a medical device" in reference.bundle.members["card.html"]


def test_full_size_xrays_are_answered_like_their_small_copies(
    reference: Classifier, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(shared_data / "chest_xray_fullsize"), "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 120
    small = {path.name: path for path in (shared_data / "chest_xray").rglob("*.jpeg")}
    same = [reference.predict(small[Path(answer["file"]).name]).label == answer["label"] for answer in answers]
    assert sum(same) / len(same) >= LEAST_AGREEMENT


def test_a_torn_xray_is_refused_with_a_reason(reference: Classifier, shared_data: Path) -> None:
    raw = next((shared_data / "chest_xray_fullsize" / "NORMAL").iterdir()).read_bytes()
    with pytest.raises(ImageError, match="damaged or incomplete"):
        reference.predict(raw[: len(raw) // 2])
