import dataclasses
import json

import pytest

from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import BundleError, InterpreterError
from slimscan_edge.golden import EXPECTED, SelfTest, golden_outputs, require_self_test, self_test
from slimscan_edge.interpreter import Interpreter


def changed(bundle, *, preprocess=None, members=None):
    manifest = bundle.manifest
    if preprocess:
        manifest = dataclasses.replace(manifest, preprocess=dataclasses.replace(manifest.preprocess, **preprocess))
    return dataclasses.replace(bundle, manifest=manifest, members={**bundle.members, **(members or {})})


def test_this_machine_answers_as_the_exporting_one(classifier):
    assert self_test(classifier) == SelfTest(images=3, largest_difference=0, allowed_steps=1)
    assert require_self_test(classifier).passed


@pytest.mark.parametrize(
    "preprocess",
    [
        *({"resize_filter": name} for name in ("box", "hamming", "bicubic", "lanczos")),
        {"fit": "letterbox"},
        {"fit": "crop"},
        {"intensity": "percentile"},
    ],
)
def test_changed_preprocessing_is_caught(golden_bundle, preprocess):
    with pytest.raises(InterpreterError, match="steps off"):
        require_self_test(Classifier(changed(golden_bundle, preprocess=preprocess)))


@pytest.mark.parametrize(("steps", "passes"), [(0, True), (1, True), (2, False), (-2, False)])
def test_one_step_of_rounding_is_allowed_and_two_are_not(golden_bundle, steps, passes):
    expected = json.loads(golden_bundle.members[EXPECTED])
    expected["golden/dark.png"]["evidence"][5] += steps
    bundle = changed(golden_bundle, members={EXPECTED: json.dumps(expected).encode()})
    assert self_test(Classifier(bundle)).passed == passes


@pytest.mark.parametrize(("steps", "passes"), [(3, True), (-3, True), (4, False)])
def test_kernels_that_are_not_xnnpacks_may_differ_by_three_steps(golden_bundle, monkeypatch, steps, passes):
    monkeypatch.setattr(Interpreter, "runs_xnnpack", property(lambda interpreter: False))
    expected = json.loads(golden_bundle.members[EXPECTED])
    expected["golden/dark.png"]["evidence"][5] += steps
    bundle = changed(golden_bundle, members={EXPECTED: json.dumps(expected).encode()})
    assert self_test(Classifier(bundle)).passed == passes


@pytest.mark.parametrize(
    "expected",
    [
        b"",
        b"{}",
        b"[]",
        b'{"golden/absent.png": {"logits": [1]}}',
        b'{"golden/dark.png": {"scores": [1]}}',
        b'{"golden/dark.png": {"evidence": [1, 2, 3]}}',
        b'{"golden/dark.png": {"evidence": [1, 2, 3], "logits": [1]}}',
        b'{"golden/dark.png": {}}',
        b'{"golden/dark.png": null}',
        b'{"golden/dark.png": {"logits": null, "evidence": null}}',
        b'{"golden/dark.png": {"logits": ["1"], "evidence": []}}',
        b'{"golden/dark.png": {"logits": [true], "evidence": []}}',
        b'{"golden/dark.png": {"logits": [1.0], "evidence": []}}',
        b'{"golden/dark.png": {"logits": [[1]], "evidence": [[1]]}}',
        b'{"golden/dark.png": {"logits": [Infinity], "evidence": [NaN]}}',
        b'{"golden/dark.png": {"logits": [1e400], "evidence": []}}',
        b'{"golden/dark.png": {"logits": [1' + b"0" * 400 + b'], "evidence": []}}',
        b'{"model.tflite": {"logits": [1], "evidence": [1]}, "golden/expected.json": {}}',
        b'{"golden/expected.json": {"logits": [1], "evidence": [1]}}',
        b'{"golden/dark.png": {}, "golden/dark.png": {}}',
        b"null",
        b'"a text"',
        b"3",
        b"Infinity",
        b"[" * 900 + b"]" * 900,
        b"[" * 100_000,
        b"\xff\xfe{\0}\0",
    ],
)
def test_an_unusable_list_is_refused_rather_than_passed(golden_bundle, expected):
    with pytest.raises(BundleError, match="no usable golden images"):
        self_test(Classifier(changed(golden_bundle, members={EXPECTED: expected})))


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63) + 1])
def test_huge_integers_are_far_off_and_never_wrap_around(golden_bundle, value):
    expected = json.loads(golden_bundle.members[EXPECTED])
    expected["golden/dark.png"]["evidence"][5] = value
    result = self_test(Classifier(changed(golden_bundle, members={EXPECTED: json.dumps(expected).encode()})))
    assert result.largest_difference > 2**62
    assert not result.passed


def test_a_bundle_without_golden_images_is_refused(golden_bundle):
    bare = dataclasses.replace(golden_bundle, members={"model.tflite": golden_bundle.model})
    with pytest.raises(BundleError, match="no usable golden images"):
        self_test(Classifier(bare))


def test_golden_outputs_are_integers_by_role(classifier):
    outputs = golden_outputs(classifier, classifier.bundle.members["golden/bright.png"])
    assert {role: len(values) for role, values in outputs.items()} == {"logits": 1, "evidence": 64}
    assert all(type(value) is int for values in outputs.values() for value in values)
