"""Small files that people in the field stumble over, where they are: each with its one right outcome."""

from pathlib import Path

import pytest

from slimscan_edge.classifier import Classifier, Finding
from slimscan_edge.errors import ImageError
from slimscan_edge.locate import locate_bundle


@pytest.fixture(scope="module")
def device(shared_data: Path) -> Path:
    folder = shared_data.parent / "cases" / "device"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


@pytest.fixture(scope="module")
def reference() -> Classifier:
    return Classifier.load(locate_bundle(None).path, threads=1)


def answer(classifier: Classifier, path: Path) -> Finding:
    try:
        return classifier.predict(path)
    except ImageError as exc:
        return Finding.rejected(str(exc), bundle_id=classifier.manifest.bundle_id)


@pytest.mark.parametrize(
    ("name", "twin", "most"),
    [
        ("padding_minus2000.dcm", "padding_black_reference.png", 0.01),
        ("cd/IM0001", "plain.png", 0.0),
        ("no_preamble.dcm", "plain.png", 0.0),
        ("bigtext.png", "plain.png", 0.0),
        ("rgb.jpeg", "plain.png", 0.02),
        ("no_eoi.jpeg", "plain.png", 0.02),
        ("marker16.png", "plain.png", 0.05),  # the letter itself is seen
    ],
)
def test_it_is_answered_as_its_twin(device, reference, name, twin, most):
    found, expected = answer(reference, device / name), answer(reference, device / twin)
    assert (found.decision, found.label) == (expected.decision, expected.label)
    assert found.probability == pytest.approx(expected.probability, abs=most)


@pytest.mark.parametrize("name", ["plain.png", "padding_black_reference.png"])
def test_what_the_others_are_held_against_is_positive(device, reference, name):
    assert answer(reference, device / name).decision == "positive"


@pytest.mark.parametrize(("name", "word"), [("bodypart_knee.dcm", "KNEE"), ("view_lateral.dcm", "LATERAL")])
def test_it_is_rejected_in_the_words_of_its_header(device, reference, name, word):
    found = answer(reference, device / name)
    assert found.decision == "rejected"
    assert word in found.reason


def test_no_file_is_forgotten(device):
    names = {str(path.relative_to(device)) for path in device.rglob("*") if path.is_file()}
    here = Path(__file__).read_text()
    assert [name for name in names if name not in here] == []
