"""Twins as `slimscan export` writes them: with the bundle or not at all."""

import builtins
import dataclasses
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from slimscan_edge.bundle import read_bundle
from slimscan_edge.cli import main
from slimscan_edge.errors import InputError, MissingExtraError
from slimscan_edge.interpreter import Interpreter
from slimscan_export.twins import Twins

pytestmark = pytest.mark.slow


@pytest.fixture
def twins(tmp_path) -> Twins:
    return Twins(mobile=tmp_path / "twin.tflite", onnx=tmp_path / "twin.onnx")


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "squares-0.1.0.slimscan"


@pytest.fixture
def converted_before(exported, monkeypatch):
    monkeypatch.setattr("slimscan_export.exporting.saved_model", lambda *_, **__: nullcontext())
    monkeypatch.setattr("slimscan_export.exporting.convert", lambda _, precision, __: exported.variants[precision])
    monkeypatch.setattr("slimscan_export.exporting.diagnose", lambda *_: exported.diagnosis)


@pytest.fixture
def export(squares_policy, twins, out) -> Callable[[Path], int]:
    """`slimscan export` with both twins, by a policy that squares can keep to; its exit code."""
    twin_files = ["--mobile", str(twins.mobile), "--onnx", str(twins.onnx)]
    as_converted_before = ["--calibration-images", "64", "--policy", str(squares_policy)]
    return lambda run: main(["export", str(run), "--out", str(out), *twin_files, *as_converted_before])


def test_an_export_that_passes_writes_both_twins_and_says_so(converted_before, export, squares_run, twins, out, capsys):
    import onnxruntime

    assert export(squares_run.folder) == 0
    printed = capsys.readouterr().out
    assert f"mobile twin: {twins.mobile} ({twins.mobile.stat().st_size:,} bytes)" in printed
    assert f"ONNX twin of the float model: {twins.onnx} ({twins.onnx.stat().st_size:,} bytes)" in printed
    assert "from float TFLite on 16 validation images" in printed
    manifest = read_bundle(out).manifest
    assert Interpreter(twins.mobile.read_bytes()).input.shape == (1, 96, 96, 3)
    said = onnxruntime.InferenceSession(twins.onnx).get_modelmeta().custom_metadata_map
    assert json.loads(said["labels"]) == list(manifest.labels)
    assert json.loads(said["operating_point"]) == dataclasses.asdict(squares_run.operating_point)


def test_an_export_that_fails_writes_no_twin(converted_before, export, copy_run, twins, capsys):
    run = copy_run()
    table = json.loads((run / "split.json").read_text())
    table["labels"].reverse()
    (run / "split.json").write_text(json.dumps(table))
    assert export(run) == 1
    printed = capsys.readouterr().out
    for name in ("mobile", "ONNX"):
        assert f"no {name} twin is written: the verdict is FAIL" in printed
    assert not twins.mobile.exists()
    assert not twins.onnx.exists()


def test_twins_are_written_only_beside_a_bundle_and_only_those_wanted(squares_run, golden_bundle_path, twins, tmp_path):
    only_mobile = dataclasses.replace(twins, onnx=None)
    assert only_mobile.write(squares_run, tmp_path / "absent.slimscan", "INCONCLUSIVE") == [
        "no mobile twin is written: the verdict is INCONCLUSIVE"
    ]
    assert not twins.mobile.exists()
    (line,) = only_mobile.write(squares_run, golden_bundle_path, "PASS")
    assert line.startswith(f"mobile twin: {twins.mobile}")
    assert twins.mobile.exists()
    assert not twins.onnx.exists()
    assert Twins().write(squares_run, golden_bundle_path, "PASS") == []


@pytest.mark.parametrize("name", ["mobile", "onnx"])
def test_a_file_that_exists_is_refused_before_the_work(export, squares_run, twins, name, out, capsys):
    path = getattr(twins, name)
    path.write_bytes(b"kept")
    assert export(squares_run.folder) == 2
    assert f"--{name} {path} exists and is never overwritten" in capsys.readouterr().err
    assert path.read_bytes() == b"kept"
    assert not out.exists()


def test_what_cannot_be_done_afterwards_is_refused_before_the_work(squares_run, twins, monkeypatch):
    twins.check(squares_run)
    preprocess = dataclasses.replace(squares_run.config.preprocess, fit="crop")
    cropped = dataclasses.replace(squares_run, config=dataclasses.replace(squares_run.config, preprocess=preprocess))
    with pytest.raises(InputError, match="a mobile twin needs preprocessing with fit = stretch, got crop"):
        twins.check(cropped)
    dataclasses.replace(twins, mobile=None).check(cropped)
    real_import = builtins.__import__

    def without(name, *rest, **more):
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'slimscan\[onnx\]'"):
        twins.check(squares_run)
    dataclasses.replace(twins, onnx=None).check(squares_run)
