"""What a microcontroller's interpreter needs and answers, on the shipped reference bundle and a small golden one."""

import builtins
import dataclasses
import json

import numpy as np
import pytest

from slimscan_edge.bundle import Bundle, read_bundle
from slimscan_edge.errors import InputError, InterpreterError, MissingExtraError
from slimscan_edge.golden import EXPECTED
from slimscan_edge.locate import locate_bundle
from slimscan_export.micro import MicroCheck, arena_bytes, check_micro, micro_outputs, reference_outputs

TEN_DOLLAR_ARENA_BYTES = 512 * 1024


@pytest.fixture(scope="module")
def reference() -> Bundle:
    return read_bundle(locate_bundle(None).path)


def test_the_reference_bundle_fits_a_ten_dollar_microcontroller_and_answers_there(reference):
    check = check_micro(reference)
    assert check.arena_bytes <= TEN_DOLLAR_ARENA_BYTES
    assert check.images == 2
    assert check.reference_steps == {"logits": 0, "evidence": 0}
    assert check.passed


def test_the_arena_told_is_enough_and_half_of_it_is_not(golden_bundle):
    needed = arena_bytes(golden_bundle.model)
    black = np.zeros((1, 32, 32, 1), np.uint8)
    assert [len(output) for output in micro_outputs(golden_bundle.model, black, arena_size=needed)] == [1, 1]
    with pytest.raises(InputError, match=rf"does not run the model in {needed // 2:,} bytes of arena"):
        micro_outputs(golden_bundle.model, black, arena_size=needed // 2)


def test_outputs_are_those_of_the_reference_kernels_image_by_image(golden_bundle):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 1), dtype=np.uint8)
    found = micro_outputs(golden_bundle.model, pixels)
    assert [output.shape[0] for output in found] == [5, 5]
    for output, expected in zip(found, reference_outputs(golden_bundle.model, pixels), strict=True):
        assert np.array_equal(output, expected)
    assert len(np.unique(found[golden_bundle.manifest.output_roles.index("evidence")])) > 1


def test_a_golden_integer_that_no_kernel_gives_is_told(golden_bundle):
    expected = json.loads(golden_bundle.members[EXPECTED])
    assert check_micro(golden_bundle).passed
    expected["golden/dark.png"]["logits"][0] += 5
    members = {**golden_bundle.members, EXPECTED: json.dumps(expected).encode()}
    check = check_micro(dataclasses.replace(golden_bundle, members=members))
    assert check.golden_steps["logits"] > 3
    assert not check.passed


@pytest.mark.parametrize(
    ("reference_steps", "golden_steps", "passes"),
    [
        ({"logits": 1, "evidence": 1}, {"logits": 3, "evidence": 3}, True),
        ({"logits": 0, "evidence": 2}, {"logits": 0, "evidence": 0}, False),
        ({"logits": 2, "evidence": 0}, {"logits": 0, "evidence": 0}, False),
        ({"logits": 0, "evidence": 0}, {"logits": 4, "evidence": 0}, False),
        ({"logits": 0, "evidence": 0}, {"logits": 0, "evidence": 4}, False),
    ],
)
def test_one_step_is_allowed_from_the_same_kernels_and_three_from_others(reference_steps, golden_steps, passes):
    check = MicroCheck(arena_bytes=1, images=1, reference_steps=reference_steps, golden_steps=golden_steps)
    assert check.passed == passes


@pytest.mark.parametrize("model", [b"", b"not a model", bytes(1000)])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(InterpreterError, match="refuses the model"):
        arena_bytes(model)


def test_without_the_package_the_pip_line_is_told(golden_bundle, monkeypatch):
    real_import = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("tflite_micro"):
            raise ModuleNotFoundError("No module named 'tflite_micro'", name="tflite_micro")
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"run: pip install 'slimscan\[export\]'"):
        arena_bytes(golden_bundle.model)
