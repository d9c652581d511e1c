"""The bundle of an export: read back, reproducible, with golden answers and a card that says what it is."""

import dataclasses
import json

import pytest

from slimscan_edge.bundle import CARD, Bundle, GateResult, parse_bundle, read_bundle, write_bundle
from slimscan_edge.classifier import NOT_A_MEDICAL_DEVICE, Classifier
from slimscan_edge.errors import InterpreterError
from slimscan_edge.golden import EXPECTED, golden_outputs, require_self_test, self_test
from slimscan_export import bundling
from slimscan_export.bundling import make_bundle

pytestmark = pytest.mark.slow

GATES = (GateResult(name="new misses <5%", verdict="PASS", measured="0 of 189 & no more", allowed="at most 2 %"),)


def bundled(exported, **changes) -> Bundle:
    run = dataclasses.replace(exported.run, **changes)
    return make_bundle(
        run,
        exported.variants["int8"],
        run.operating_point,
        GATES,
        "PASS",
        name="squares",
        model_version="0.1.0",
    )


def test_a_bundle_reads_back_as_it_was_made(exported, tmp_path):
    bundle = bundled(exported)
    path = tmp_path / "squares-0.1.0.slimscan"
    write_bundle(path, bundle.manifest, bundle.members)
    again = read_bundle(path)
    assert again == bundle
    assert again.model == exported.variants["int8"]
    manifest = again.manifest
    assert manifest.preprocess == exported.run.config.preprocess
    assert manifest.operating_point == exported.run.operating_point
    assert manifest.labels == ("NORMAL", "PNEUMONIA")
    assert (manifest.gates, manifest.verdict) == (GATES, "PASS")


def test_the_same_input_gives_the_same_bytes(exported):
    assert bundled(exported).sha256 == bundled(exported).sha256


def test_golden_images_carry_their_answers(exported):
    bundle = bundled(exported)
    expected = json.loads(bundle.members[EXPECTED])
    assert sorted(expected) == ["golden/phantom-0.png", "golden/phantom-1.png"]
    assert all(sorted(outputs) == ["evidence", "logits"] for outputs in expected.values())
    found = require_self_test(Classifier(bundle))
    assert (found.images, found.largest_difference) == (2, 0)


def test_wrong_golden_answers_do_not_leave_the_exporting_machine(exported, monkeypatch):
    def wrong(*words):
        return {role: [value + 99 for value in values] for role, values in golden_outputs(*words).items()}

    monkeypatch.setattr(bundling, "golden_outputs", wrong)
    with pytest.raises(InterpreterError, match="steps off"):
        bundled(exported)


def test_another_model_fails_the_golden_answers(exported):
    bundle = bundled(exported)
    expected = json.loads(bundle.members[EXPECTED])
    expected["golden/phantom-0.png"]["logits"][0] += 2
    members = {**bundle.members, EXPECTED: json.dumps(expected).encode()}
    assert not self_test(Classifier(dataclasses.replace(bundle, members=members))).passed


def test_the_card_says_what_the_model_is_not_and_escapes(exported):
    labels = ("NORMAL", "<script>alert(1)</script>")
    card = bundled(exported, split=dataclasses.replace(exported.run.split, labels=labels)).members[CARD].decode()
    assert NOT_A_MEDICAL_DEVICE in card
    assert NOT_A_MEDICAL_DEVICE.startswith("Not a medical device")
    assert "<script>" not in card
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in card
    assert "new misses &lt;5%: PASS" in card
    assert "0 of 189 &amp; no more" in card
    assert "http" not in card  # self-contained: nothing is fetched


def test_training_data_and_use_are_told_only_where_they_are_known(exported):
    known = bundled(exported).manifest
    assert "Kermany" in known.training_data["attribution"]
    assert known.training_data["split"] == exported.run.split.describe()
    assert "chest X-rays of children" in known.intended_use
    own = bundled(exported, split=dataclasses.replace(exported.run.split, naming="generic")).manifest
    assert (own.training_data["attribution"], own.training_data["licence"]) == ("not declared", "not declared")
    assert "children" not in own.intended_use
    assert "Not a medical device" in own.intended_use


def test_a_bundle_parses_from_its_bytes_alone(exported, tmp_path):
    bundle = bundled(exported)
    path = tmp_path / "squares-0.1.0.slimscan"
    write_bundle(path, bundle.manifest, bundle.members)
    assert parse_bundle(path.read_bytes(), name="bytes") == bundle
