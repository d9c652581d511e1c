from importlib import metadata

import pytest

from slimscan_edge import checkup
from slimscan_edge.checkup import check_up
from slimscan_edge.errors import InterpreterError


def checks(bundle):
    return {check.name: check for check in check_up(bundle)}


def statuses(bundle):
    return {name: check.status for name, check in checks(bundle).items() if not name.startswith("extra")}


def test_a_ready_machine_has_no_problem(golden_bundle_path):
    found = checks(golden_bundle_path)
    assert {check.status for name, check in found.items() if not name.startswith("extra")} <= {"ok", "absent"}
    assert found["bundle"].detail.startswith("brightness-1.0.0, given with --bundle, sha256 ")
    assert found["gates"].detail == "PASS, 1 gates"
    assert found["self-test"].detail == "3 golden images, 0 steps off at most (1 allowed)"
    assert found["numpy"].detail == metadata.version("numpy")
    assert "cores" in found["machine"].detail
    assert "MiB" in found["machine"].detail


@pytest.mark.parametrize(
    "expected",
    [b"null", b'"a text"', b"Infinity", b"[" * 1000 + b"]" * 1000, b'{"golden/dark.png": null}', b"", b"\xff"],
)
def test_odd_golden_integers_are_a_problem(golden_bundle, write_variant, expected):
    found = checks(write_variant(members={**golden_bundle.members, "golden/expected.json": expected}))
    assert (found["bundle"].status, found["self-test"].status) == ("ok", "problem")
    assert "no usable golden images" in found["self-test"].detail


def test_packages_under_another_name_are_no_problem(golden_bundle_path, monkeypatch):
    """Pillow-SIMD and a nightly of the interpreter, where `slimscan predict` works."""
    real = metadata.version

    def version(name):
        if name in ("pillow", "ai-edge-litert"):
            raise metadata.PackageNotFoundError(name)
        return {"Pillow-SIMD": "9.5.0", "ai-edge-litert-nightly": "3.0.0.dev1"}.get(name) or real(name)

    twins = {"PIL": ["Pillow-SIMD"], "ai_edge_litert": ["ai-edge-litert-nightly"]}
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "packages_distributions", lambda: twins)
    found = checks(golden_bundle_path)
    assert found["pillow"].detail == "9.5.0 (Pillow-SIMD)"
    assert found["self-test"].status == "ok"
    twins.clear()
    found = checks(golden_bundle_path)
    assert found["pillow"].status == found["interpreter"].status == found["self-test"].status == "ok"


def test_failed_gates_are_a_problem_and_the_self_test_is_still_run(write_variant):
    found = checks(write_variant(verdict="INCONCLUSIVE"))
    assert (found["gates"].status, found["self-test"].status) == ("problem", "ok")
    assert "--allow-failed" in found["gates"].detail


def test_a_machine_that_computes_otherwise_is_a_problem(golden_bundle, write_variant):
    from dataclasses import replace

    found = checks(write_variant(preprocess=replace(golden_bundle.manifest.preprocess, resize_filter="box")))
    assert found["self-test"].status == "problem"
    assert "do not use this machine's answers" in found["self-test"].detail


def test_a_damaged_bundle_is_a_problem(golden_bundle_path, tmp_path):
    (tmp_path / "b.slimscan").write_bytes(golden_bundle_path.read_bytes()[:-1])
    found = checks(tmp_path / "b.slimscan")
    assert found["bundle"].status == "problem"
    assert "copy it again" in found["bundle"].detail
    assert "self-test" not in found


def test_a_model_that_the_interpreter_refuses_fails_the_self_test(golden_bundle, write_variant):
    found = checks(write_variant(members={**golden_bundle.members, "model.tflite": b"no model"}))
    assert found["self-test"].status == "problem"
    assert "refuses the model" in found["self-test"].detail


def test_without_an_interpreter_it_says_what_to_install(golden_bundle_path, monkeypatch):
    def absent():
        raise InterpreterError("no TFLite interpreter is installed; run: pip install ai-edge-litert")

    monkeypatch.setattr("slimscan_edge.interpreter.import_interpreter", absent)
    found = checks(golden_bundle_path)
    assert found["interpreter"].status == "problem"
    assert "pip install ai-edge-litert" in found["interpreter"].detail
    assert "bundle" not in found  # nothing can be said of it


@pytest.mark.parametrize(
    ("machine", "release", "named"),
    [
        ("aarch64", (3, 11), "under a 64-bit kernel"),
        ("armv8l", (3, 11), "pip install 'numpy<2' pillow tflite-runtime"),
        ("armv7l", (3, 11), "pip install 'numpy<2' pillow tflite-runtime"),
        ("armv7l", (3, 12), "no TFLite interpreter is published for 32-bit ARM and Python 3.12"),
        ("aarch64", (3, 13), "no TFLite interpreter is published for 32-bit ARM and Python 3.12"),
        ("armv6l", (3, 11), "no TFLite interpreter is published for ARMv6"),
    ],
)
def test_a_32_bit_arm_python_is_told_which_interpreter_it_can_have(monkeypatch, machine, release, named):
    def absent():
        raise InterpreterError("no TFLite interpreter is installed; run: pip install ai-edge-litert")

    monkeypatch.setattr("slimscan_edge.interpreter.import_interpreter", absent)
    monkeypatch.setattr("sys.maxsize", 2**31 - 1)
    monkeypatch.setattr("sys.version_info", (*release, 0))
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(checkup, "_is_installed", lambda name: False)
    found = checks(None)
    assert found["interpreter"].status == "problem"
    assert named in found["interpreter"].detail
    assert found["interpreter"].detail.count("\n") == 0
    assert "32-bit Python" in found["machine"].detail


def test_an_interpreter_that_does_not_load_is_told_in_its_own_words_on_32_bit_arm_too(monkeypatch):
    def broken():
        raise InterpreterError("tflite_runtime.interpreter is installed but does not load: NumPy 2")

    monkeypatch.setattr("slimscan_edge.interpreter.import_interpreter", broken)
    monkeypatch.setattr("sys.maxsize", 2**31 - 1)
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    monkeypatch.setattr(checkup, "_is_installed", lambda name: True)
    assert checks(None)["interpreter"].detail.endswith("does not load: NumPy 2")


def test_a_package_that_does_not_load_is_a_problem(golden_bundle_path, monkeypatch):
    def broken(name):
        raise ImportError("libopenblas.so.0: cannot open shared object file")

    monkeypatch.setattr(checkup, "import_module", broken)
    found = checks(golden_bundle_path)
    assert found["numpy"].status == found["pillow"].status == "problem"
    assert "libopenblas.so.0" in found["numpy"].detail
    assert "pip install --force-reinstall numpy" in found["numpy"].detail


@pytest.mark.parametrize(("codec", "what"), [("jpg", "JPEG"), ("zlib", "PNG")])
def test_a_pillow_without_a_codec_is_a_problem(golden_bundle_path, monkeypatch, codec, what):
    monkeypatch.setattr("PIL.features.check_codec", lambda name: name != codec)
    assert statuses(golden_bundle_path)[what] == "problem"


def test_a_pillow_without_libjpeg_turbo_is_only_slow(golden_bundle_path, monkeypatch):
    monkeypatch.setattr("PIL.features.check_feature", lambda name: False)
    assert statuses(golden_bundle_path)["libjpeg-turbo"] == "absent"


def test_extras_are_known_from_the_installed_metadata(golden_bundle_path, monkeypatch):
    wanted = [
        "pillow>=10.3",
        "numpy>=1.26; platform_machine != 'armv7l'",
        "scipy>=1.13; extra == 'bench'",
        "a-package-that-is-absent<2; (python_version >= '3.8') and extra == 'bench'",
        'pillow>=10; extra == "serve"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(checkup, "_is_installed", lambda name: name != "a-package-that-is-absent")
    extras = {name: check for name, check in checks(golden_bundle_path).items() if name.startswith("extra")}
    assert {name: check.status for name, check in extras.items()} == {"extra bench": "absent", "extra serve": "ok"}
    assert extras["extra bench"].detail.startswith("without a-package-that-is-absent; ")
    assert "pip install 'slimscan[bench]'" in extras["extra bench"].detail


def test_a_slimscan_that_is_not_installed_has_no_extras_to_tell(golden_bundle_path, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert not any(name.startswith("extra") for name in checks(golden_bundle_path))


def test_whether_a_distribution_is_installed():
    assert checkup._is_installed("numpy")
    assert not checkup._is_installed("a-package-that-is-absent")
