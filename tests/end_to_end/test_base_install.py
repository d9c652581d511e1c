"""What a device gets: the wheel and its base dependencies alone, in an environment of its own."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
TRAINING = {"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization", "scipy", "matplotlib", "sklearn"}
TRAINING |= {"pandas", "jax", "jinja2", "rich", "optuna"}


def run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


def succeed(*words: str | Path, folder: Path) -> str:
    """Run a program and return its stdout; fail with what it said when its exit code is not 0."""
    done = run(*words, folder=folder)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, words))} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    succeed(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, REPOSITORY, folder=folder)
    (built,) = folder.glob("slimscan-*.whl")
    return built


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment in which only the wheel was asked for."""
    folder = tmp_path_factory.mktemp("device")
    succeed(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = (programs / "python", "-m", "pip", "--disable-pip-version-check", "--quiet")
    if run(*pip, "install", "--retries", "0", "--dry-run", "--no-deps", "pillow", folder=folder).returncode:
        pytest.skip("pip reaches no package index, so that the base dependencies cannot be installed")
    succeed(*pip, "install", wheel, folder=folder)
    return programs


@pytest.fixture
def xray(tmp_path: Path) -> Path:
    path = tmp_path / "bright.png"
    Image.fromarray(np.full((300, 400), 220, np.uint8)).save(path)
    return path


def test_the_wheel_holds_the_four_packages_and_nothing_beside_them(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    packages = {"slimscan_edge", "slimscan_train", "slimscan_bench", "slimscan_export"}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages


def test_no_training_package_is_installed(device, tmp_path):
    program = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    assert succeed(device / "python", "-c", program, *sorted(TRAINING), folder=tmp_path) == "[]\n"


def test_predict_answers_and_draws(device, xray, golden_bundle_path, tmp_path):
    overlays = tmp_path / "overlays"
    words = ("predict", xray, "--bundle", golden_bundle_path, "--json", "--overlay", overlays)
    answer = json.loads(succeed(device / "slimscan", *words, folder=tmp_path))
    assert (answer["decision"], answer["label"]) == ("positive", "BRIGHT")
    assert [str(path) for path in overlays.iterdir()] == [answer["overlay"]]


def test_bench_measures(device, xray, golden_bundle_path, tmp_path):
    counts = ("--processes", "1", "--repeats", "2", "--cold-starts", "1")
    words = ("bench", xray, "--bundle", golden_bundle_path, *counts, "--json")
    record = json.loads(succeed(device / "slimscan", *words, folder=tmp_path))
    assert isinstance(record, dict)


def test_doctor_finds_the_device_ready_and_the_extras_absent(device, golden_bundle_path, tmp_path):
    words = ("doctor", "--bundle", golden_bundle_path, "--json")
    answer = json.loads(succeed(device / "slimscan", *words, folder=tmp_path))
    status = {check["name"]: check["status"] for check in answer["checks"]}
    assert answer["ready"] is True
    assert status["self-test"] == "ok"
    assert status["extra train"] == "absent"


@pytest.mark.parametrize(
    ("words", "extra"), [(["export", "run", "--out", "b.slimscan"], "export"), (["bench", "--training"], "train")]
)
def test_a_command_of_an_extra_says_what_to_install(device, tmp_path, words, extra):
    done = run(device / "slimscan", *words, folder=tmp_path)
    assert done.returncode == 4
    assert f"pip install 'slimscan[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["predict", "bench", "doctor"])
def test_no_training_package_is_imported(device, xray, golden_bundle_path, tmp_path, command):
    words = {
        "predict": [xray, "--overlay", tmp_path / "overlays"],
        "bench": [xray, "--processes", "1", "--repeats", "1", "--cold-starts", "0"],
        "doctor": [],
    }[command]
    program = (
        "import sys; from slimscan_edge.cli import main; code = main(sys.argv[1:]); "
        "print(*{name.split('.')[0] for name in sys.modules}); sys.exit(code)"
    )
    words = [device / "python", "-c", program, command, *words, "--bundle", golden_bundle_path]
    loaded = succeed(*words, folder=tmp_path).splitlines()[-1].split()
    assert "ai_edge_litert" in loaded or "tflite_runtime" in loaded
    assert TRAINING.isdisjoint(loaded)
