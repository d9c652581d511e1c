"""The runtime on ARM machines under emulation: their answers are this machine's, to the integer.

XNNPACK, which ai-edge-litert runs, gives the same integers on 64-bit ARM as here. tflite-runtime for 32-bit ARM runs
TFLite's reference kernels, which round otherwise; ai-edge-litert has these too, and theirs are compared. How far the
two sets of kernels lie apart is told in docs/decisions/0005-two-sets-of-kernels.md.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from build_root import MACHINES, Machine, is_ready
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.classifier import Classifier
from slimscan_edge.files import image_files
from slimscan_edge.golden import EXPECTED
from slimscan_edge.locate import locate_bundle
from slimscan_edge.preprocess import decode, preprocess
from slimscan_export.micro import reference_outputs
from slimscan_train.phantom import draw_phantom

XRAYS = 50
OLDER_PILLOW_LEVELS = 2
"""Debian's Pillow 9.4 always shrinks the width first, Pillow 13 what saves more work: some pictures round otherwise."""
MOST_STEPS = {"arm64": {"logits": 0, "evidence": 0}, "armhf": {"logits": 4, "evidence": 5}}
"""How far an output may lie from XNNPACK's on this machine, for the same pixels: the most that the reference kernels
lie from it on 120 X-rays with pneumonia-0.2.0."""

Outputs: TypeAlias = dict[str, NDArray[np.int64]]  # by role: logits [N, K], evidence [N, h, w, K]
Kernels: TypeAlias = Callable[[NDArray[np.uint8]], Outputs]


@pytest.fixture(scope="module", params=MACHINES, ids=lambda machine: machine.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    if not is_ready(request.param):
        pytest.skip(f"{request.param.name} or its emulator is not on this machine; run: make arm")
    return request.param


@pytest.fixture(scope="module")
def reference() -> Classifier:
    return Classifier.load(locate_bundle(None).path)


@pytest.fixture
def xnnpack(reference: Classifier) -> Kernels:
    def outputs(pixels: NDArray[np.uint8]) -> Outputs:
        answers = [reference.interpreter.invoke(image[np.newaxis]) for image in pixels]
        return _by_role(reference, tuple(np.concatenate(output) for output in zip(*answers, strict=True)))

    return outputs


@pytest.fixture
def its_kernels(machine: Machine, reference: Classifier, xnnpack: Kernels) -> Kernels:
    """The kernels that the ARM machine's interpreter runs, on this machine."""
    if machine.architecture == "arm64":
        return xnnpack
    return lambda pixels: _by_role(reference, reference_outputs(reference.bundle.model, pixels))


def _by_role(reference: Classifier, outputs: tuple[NDArray[Any], ...]) -> Outputs:
    return {role: output.astype(int) for role, output in zip(reference.manifest.output_roles, outputs, strict=True)}


def run(machine: Machine, *words: str | Path) -> str:
    done = machine.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def findings(machine: Machine, paths: list[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(machine, "-m", "slimscan_edge", "predict", "--json", *paths).splitlines()]


def assert_integers_of_findings(reference: Classifier, answers: list[dict[str, Any]], wanted: Outputs) -> None:
    """The first logit and its evidence, which are all that a finding tells, are exactly what the integers stand for."""
    for role, key in (("logits", "logit"), ("evidence", "evidence")):
        spec = reference.interpreter.outputs[reference.manifest.output_roles.index(role)]
        found = np.array([answer[key] for answer in answers])
        np.testing.assert_array_equal(found, spec.real_values(wanted[role][..., 0]), err_msg=role)


def steps_apart(left: Outputs, right: Outputs) -> dict[str, int]:
    return {role: int(np.abs(left[role] - right[role]).max()) for role in left}


@pytest.fixture(scope="module")
def golden_pixels(reference: Classifier) -> dict[str, NDArray[np.uint8]]:
    members = reference.bundle.members
    return {name: preprocess(members[name], reference.manifest.preprocess) for name in json.loads(members[EXPECTED])}


@pytest.fixture(scope="module")
def probed(
    machine: Machine, golden_pixels: dict[str, NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, NDArray[Any]]:
    """What the ARM machine makes of the golden images; see probe.py."""
    folder = tmp_path_factory.mktemp("probe")
    np.savez(folder / "pixels.npz", **golden_pixels)
    run(machine, Path(__file__).with_name("probe.py"), folder / "pixels.npz", folder / "answers.npz")
    return dict(np.load(folder / "answers.npz"))


def test_golden_images_give_the_same_integers(machine, reference, golden_pixels, probed, its_kernels):
    wanted = its_kernels(np.stack(list(golden_pixels.values())))
    for role, outputs in wanted.items():
        found = np.stack([probed[f"{name}/given/{role}"] for name in golden_pixels])
        np.testing.assert_array_equal(found.reshape(outputs.shape), outputs, err_msg=role)


def test_golden_images_meet_the_bundles_integers_as_near_as_the_kernels_are(machine, reference, golden_pixels, probed):
    expected = json.loads(reference.bundle.members[EXPECTED])
    for role, allowed in MOST_STEPS[machine.architecture].items():
        for name in golden_pixels:
            assert np.abs(probed[f"{name}/given/{role}"].astype(int) - expected[name][role]).max() <= allowed
            assert np.abs(probed[f"{name}/own/{role}"] - expected[name][role]).max() <= allowed


def test_golden_images_give_the_same_pixels_but_for_an_older_pillows_rounding(
    machine, reference, golden_pixels, probed
):
    allowed = OLDER_PILLOW_LEVELS if "pillow" in machine.from_debian else 0
    for name, pixels in golden_pixels.items():
        decoded = decode(reference.bundle.members[name], reference.manifest.preprocess)
        np.testing.assert_array_equal(probed[f"{name}/decoded"], np.asarray(decoded))
        assert np.abs(probed[f"{name}/pixels"].astype(int) - pixels).max() <= allowed


def test_doctor_finds_the_machine_ready(machine):
    found = json.loads(run(machine, "-m", "slimscan_edge", "doctor", "--json"))
    detail = {check["name"]: check["detail"] for check in found["checks"] if check["status"] == "ok"}
    assert found["ready"] is True
    assert "golden images" in detail["self-test"]
    assert detail["python"].startswith(f"CPython {machine.python}.")
    assert detail["machine"].startswith(machine.processor)
    interpreter = {"arm64": "ai_edge_litert", "armhf": "tflite_runtime"}[machine.architecture]
    assert detail["interpreter"].startswith(interpreter)


def test_predict_answers_for_phantoms_with_the_same_integers(machine, reference, its_kernels, tmp_path):
    rng = np.random.default_rng(20)
    heights = {"normal.png": 320, "bacteria.jpeg": 320, "virus.jpg": 500, "bacteria.png": 1400, "normal.jpeg": 1400}
    paths = [tmp_path / name for name in heights]
    for path, height in zip(paths, heights.values(), strict=True):
        Image.fromarray(draw_phantom(rng, subtype=path.stem, height=height, width=height * 5 // 4)).save(path)
    answers = findings(machine, paths)
    wanted = its_kernels(np.stack([preprocess(path, reference.manifest.preprocess) for path in paths]))
    assert_integers_of_findings(reference, answers, wanted)
    assert [answer["decision"] for answer in answers] == [reference.predict(path).decision for path in paths]


@pytest.mark.slow
def test_real_xrays_are_decided_alike(machine, reference, its_kernels, xnnpack, shared_data, capsys):
    every = image_files([shared_data / "chest_xray_fullsize"])
    paths = [every[index] for index in np.linspace(0, len(every) - 1, XRAYS).astype(int)]
    here = [reference.predict(path) for path in paths]
    answers = findings(machine, paths)
    assert [answer["decision"] for answer in answers] == [finding.decision for finding in here]
    pixels = np.stack([preprocess(path, reference.manifest.preprocess) for path in paths])
    outputs = its_kernels(pixels)
    assert_integers_of_findings(reference, answers, outputs)
    steps = steps_apart(outputs, xnnpack(pixels))
    allowed = MOST_STEPS[machine.architecture]
    assert all(steps[role] <= allowed[role] for role in allowed)
    apart = max(abs(answer["probability"] - finding.probability) for answer, finding in zip(answers, here, strict=True))
    with capsys.disabled():
        print(
            f"\n{machine.name}: {XRAYS} X-rays decided as here, probabilities at most {apart:.4f} apart, steps {steps}"
        )
