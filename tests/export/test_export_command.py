"""`slimscan export` as it is typed. Conversion is proven elsewhere: here the session's models stand in for it."""

import builtins
import dataclasses
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimscan_edge.bundle import read_bundle
from slimscan_edge.cli import main
from slimscan_edge.golden import TOLERANCE_STEPS
from slimscan_export.exporting import judge
from slimscan_train.run import read_run

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def converted_before(exported, monkeypatch):
    monkeypatch.setattr("slimscan_export.exporting.saved_model", lambda *_, **__: nullcontext())
    monkeypatch.setattr("slimscan_export.exporting.convert", lambda _, precision, __: exported.variants[precision])
    monkeypatch.setattr("slimscan_export.exporting.diagnose", lambda *_: exported.diagnosis)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "squares-0.1.0.slimscan"


def edit_split(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    table = json.loads((run / "split.json").read_text())
    change(table)
    (run / "split.json").write_text(json.dumps(table))


def verdicts(out: Path) -> dict[str, str]:
    record = json.loads((out.with_suffix(".export") / "export.json").read_text())
    return {gate["name"]: gate["verdict"] for gate in record["gates"]}


@pytest.fixture
def export(squares_policy: Path, out: Path) -> Callable[..., int]:
    """`slimscan export` by a policy that squares can keep to; its exit code."""
    return lambda run, *words: main(["export", str(run), "--out", str(out), "--policy", str(squares_policy), *words])


@pytest.fixture
def fails(export: Callable[..., int], out: Path) -> Callable[[Path], set[str]]:
    """The gates that an export fails by; it ends with 1 and leaves no bundle."""

    def failed(run: Path) -> set[str]:
        assert export(run) == 1
        assert not out.exists()
        return {name for name, verdict in verdicts(out).items() if verdict == "FAIL"}

    return failed


def test_a_good_run_passes_and_its_bundle_predicts(export, squares_run, out, capsys):
    assert export(squares_run.folder) == 0
    said = capsys.readouterr()
    printed = said.out
    assert "PNEUMONIA is the positive class" in said.err.splitlines()[0]
    assert "verdict: PASS" in printed
    assert f"bundle: {out}" in printed
    evidence = out.with_suffix(".export")
    assert sorted(path.name for path in evidence.glob("*.tflite")) == [
        "dynamic.tflite",
        "float16.tflite",
        "float32.tflite",
        "int8.tflite",
    ]
    record = json.loads((evidence / "export.json").read_text())
    assert (record["verdict"], record["new_misses"]) == ("PASS", [])
    # How far XNNPACK's integers lie from those of its kernels goes by the network; the two sets of those are one.
    assert max(record["micro"]["reference_steps"].values()) <= TOLERANCE_STEPS
    assert 0 < record["micro"]["arena_bytes"] < 512 * 1024
    assert {found["layer"] for found in record["diagnosis"]["layers"]} > {"stem", "evidence"}
    assert record["repair"] is None
    assert record["config"]["policy"]["name"] == "squares"
    assert {gate["family"] for gate in record["gates"]} == {"", "subgroup", "shift"}
    val = [image.path for image in squares_run.split.select("val")]
    assert record["shift_images"] == val
    assert {len(scores["int8"]) for scores in record["shift_scores"].values()} == {len(val)}
    in_manifest = read_bundle(out).manifest.gates
    assert "sensitivity loss by shift" in {gate.name for gate in in_manifest}
    assert len(in_manifest) < len(record["gates"])
    assert len(record["scores"]) == len(squares_run.split.select("val", "val_shift"))
    sick = next(image for image in squares_run.split.select("val") if squares_run.split.is_positive(image))
    assert main(["predict", str(squares_run.data_root / sick.path), "--bundle", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "PNEUMONIA"


def test_without_tflite_micro_the_export_passes_and_says_what_it_did_not_look_at(
    export, squares_run, out, monkeypatch, capsys
):
    real_import = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("tflite_micro"):
            raise ModuleNotFoundError("No module named 'tflite_micro'", name="tflite_micro")
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert export(squares_run.folder) == 0
    assert "arena memory is not measured: " in capsys.readouterr().err
    assert "arena memory" not in verdicts(out)
    record = json.loads((out.with_suffix(".export") / "export.json").read_text())
    assert "pip install 'slimscan[export]'" in record["micro"]["skipped"]


def test_another_policy_decides_and_is_on_record(squares_run, squares_policy, out, tmp_path, capsys):
    policy = tmp_path / "tiny.toml"
    policy.write_text(squares_policy.read_text().replace('"squares"', '"tiny"').replace("400000", "4"))
    assert main(["export", str(squares_run.folder), "--out", str(out), "--policy", str(policy)]) == 1
    printed = capsys.readouterr().out
    assert "FAIL         model size: " in printed
    assert "verdict: FAIL, by the policy tiny" in printed
    assert re.search(r"noisiest layers: \w+ \(\d+\.\d dB\), ", printed)
    record = json.loads((out.with_suffix(".export") / "export.json").read_text())
    assert record["config"]["policy"]["model"]["size_bytes"] == 4
    assert {gate["name"] for gate in record["gates"] if gate["verdict"] != "PASS"} == {"model size"}
    assert record["micro"] == {"skipped": "no bundle was written"}
    assert "By the policy <code>tiny</code>" in (out.with_suffix(".export") / "report.html").read_text()


def test_scores_that_lack_a_shift_are_refused_before_the_work(copy_run, out, capsys):
    run = copy_run()
    rows = (run / "scores.csv").read_text().splitlines()
    (run / "scores.csv").write_text("\n".join(row for row in rows if ",blur," not in row))
    assert main(["export", str(run), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert re.search(r"lacks \d+ images \(\S+ under blur first\); to score the run again, remove operating_p", said)


def test_labels_swapped_image_by_image_fail(copy_run, fails):
    def swap(table):
        for image in table["images"]:
            image["label"] = {"NORMAL": "PNEUMONIA", "PNEUMONIA": "NORMAL"}[image["label"]]

    run = copy_run()
    edit_split(run, swap)
    assert "float model reproduces its validation" in fails(run)


def test_classes_swapped_fail_although_both_models_agree(copy_run, fails):
    run = copy_run()
    edit_split(run, lambda table: table["labels"].reverse())
    assert "float model's operating point" in fails(run)


def test_shuffled_weights_fail(copy_run, fails):
    import tf_keras

    run = copy_run()
    model = read_run(run).model()
    rng = np.random.default_rng(0)
    model.set_weights([rng.permutation(weights.ravel()).reshape(weights.shape) for weights in model.get_weights()])
    (run / "model.keras").unlink()
    tf_keras.models.save_model(model, run / "model.keras")
    assert "float model reproduces its validation" in fails(run)


def test_another_resize_filter_in_the_run_fails_by_reproduction(copy_run, fails):
    """Float and int8 both see other pixels, so that no comparison of the two could tell."""
    run = copy_run()
    config = (run / "config.toml").read_text()
    assert '"bilinear"' in config
    (run / "config.toml").write_text(config.replace('"bilinear"', '"lanczos"'))
    assert "float model reproduces its validation" in fails(run)


def test_another_resize_filter_for_the_candidate_fails_by_preprocessing(exported, export_config):
    other = dataclasses.replace(exported.run.config.preprocess, resize_filter="box")
    judged = judge(
        exported.run,
        export_config,
        exported.variants,
        exported.model,
        zeros=0.0,
        note=lambda _: None,
        preprocess=other,
    )
    found = {gate.name: gate.verdict for gate in judged.gates}
    assert found["same preprocessing"] == judged.verdict == "FAIL"
    assert found["float model reproduces its validation"] == "PASS"


def test_too_few_patients_are_inconclusive_and_leave_no_bundle(export, copy_run, out, capsys):
    def keep_few(table):
        seen = {"NORMAL": 0, "PNEUMONIA": 0}
        for image in table["images"]:
            if image["split"] in ("val", "val_shift"):
                seen[image["label"]] += image["split"] == "val"
                image["split"] = "val" if image["split"] == "val" and seen[image["label"]] <= 25 else "test"

    run = copy_run()
    edit_split(run, keep_few)
    assert export(run) == 3
    assert not out.exists()
    found = verdicts(out)
    assert found["new misses"] == found["new false alarms"] == "INCONCLUSIVE"
    assert "FAIL" not in found.values()
    assert "no bundle is written: the verdict is INCONCLUSIVE" in capsys.readouterr().out


def test_a_failed_bundle_says_so_and_is_refused_without_an_override(export, copy_run, squares_run, out, capsys):
    run = copy_run()
    edit_split(run, lambda table: table["labels"].reverse())
    assert export(run, "--allow-failed") == 1
    assert read_bundle(out, allow_failed=True).manifest.verdict == "FAIL"
    words = ["predict", str(squares_run.data_root / squares_run.split.images[0].path), "--bundle", str(out)]
    assert main(words) == 2
    assert "did not pass its gates (verdict FAIL)" in capsys.readouterr().err
    assert main([*words, "--allow-failed"]) == 0
    assert "WARNING: its gates say FAIL" in capsys.readouterr().err


def test_a_version_is_never_overwritten(squares_run, out, capsys):
    out.write_text("an older bundle")
    assert main(["export", str(squares_run.folder), "--out", str(out)]) == 2
    assert out.read_text() == "an older bundle"
    assert "exists and a version is never overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "squares.slimscan"], "'squares' is no NAME-VERSION"),
        (["--out", "My squares-0.1.0.slimscan"], "a name of lower-case letters"),
        (["--out", "squares-0.1.zip"], "expected NAME-VERSION.slimscan"),
        (["--out", "squares-0.1.0.slimscan", "--prune", "1"], "sparsity is 1.0"),
        (["--out", "squares-0.1.0.slimscan", "--calibration-images", "5"], "expected at least 32"),
        (["--out", "squares-0.1.0.slimscan", "--fine-tune-epochs", "0"], "epochs 0 must be 1 or more"),
        (["--out", "squares-0.1.0.slimscan", "--policy", "lenient"], "no policy 'lenient'; known are strict"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_read(words, message, capsys):
    assert main(["export", "no-run", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(tmp_path, out, capsys):
    assert main(["export", str(tmp_path), "--out", str(out)]) == 2
    assert "is not a run" in capsys.readouterr().err


def test_an_unfinished_run_is_refused(copy_run, out, capsys):
    run = copy_run()
    (run / "operating_point.json").unlink()
    assert main(["export", str(run), "--out", str(out)]) == 2
    assert "has not ended" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.toml", "x = ["),
        ("config.toml", "[model]\nbreadth = 1\n"),
        ("data.json", None),
        ("data.json", "[]"),
        ("split.json", "{}"),
        ("operating_point.json", "{"),
        ("scores.csv", "image,logit\n"),
        ("scores.csv", None),
        ("model.keras", None),
        ("model.keras", "no model"),
    ],
)
def test_a_damaged_run_is_refused_and_the_file_named(copy_run, out, capsys, name, content):
    run = copy_run()
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_text(content)
    assert main(["export", str(run), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert name in said
    assert not out.exists()
