"""`slimscan demo`: whose folder it may replace, and how it ends. The chain itself runs in tests/end_to_end."""

import itertools
import json
import math

import numpy as np
import pytest

from slimscan_bench.clustering import clustered_loss
from slimscan_bench.intervals import clopper_pearson_upper
from slimscan_edge.cli import main
from slimscan_export.commands import demo
from slimscan_export.policy import strict_policy
from slimscan_train.config import read_recipe


@pytest.fixture
def steps(monkeypatch):
    """Stands in for drawing and for every command: notes what was called; `codes` says how a command ends."""
    called, codes = [], {}

    def command(words):
        called.append(words)
        return codes.get(words[0], 0)

    def draw(folder, *, patients, seed):
        folder.mkdir()
        (folder / "drawn").write_text(f"{patients} {seed}")

    monkeypatch.setattr(demo, "main", command)
    monkeypatch.setattr(demo, "write_dataset", draw)
    monkeypatch.setattr(demo, "_held_out", lambda folder: [str(folder / "phantoms" / "one.jpeg")])
    return called, codes


def test_the_chain_is_five_commands_in_order(steps, tmp_path, capsys):
    folder = tmp_path / "new" / "demo"
    assert main(["demo", "--out", str(folder), "--seed", "3"]) == 0
    assert [words[0] for words in steps[0]] == ["train", "export", "predict", "compare", "bench"]
    assert json.loads((folder / demo.MARK).read_text())["seed"] == 3
    said = capsys.readouterr()
    assert "PNEUMONIA is the positive class" in said.err.splitlines()[0]
    assert f"$ slimscan train {folder / 'phantoms'}" in said.err
    assert "every gate passed" in said.out


@pytest.mark.parametrize("code", [1, 3])
def test_gates_that_do_not_pass_end_the_demo_with_their_code(steps, tmp_path, capsys, code):
    called, codes = steps
    codes["export"] = code
    assert main(["demo", "--out", str(tmp_path / "demo")]) == code
    assert [words[0] for words in called] == ["train", "export"]
    said = capsys.readouterr().out
    assert f"slimscan export ended with exit code {code}" in said
    assert "every gate passed" not in said


def test_invalid_times_are_for_show_and_end_no_demo(steps, tmp_path, capsys):
    steps[1]["bench"] = 3
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    said = capsys.readouterr().out
    assert "times above are for show" in said
    assert "every gate passed" in said


def test_a_second_demo_replaces_the_first_and_leaves_what_is_not_its_own(steps, tmp_path):
    folder = tmp_path / "demo"
    assert main(["demo", "--out", str(folder)]) == 0
    (folder / "notes.txt").write_text("mine")
    (folder / demo.BUNDLE).write_text("of the first demo")
    (folder / "run").mkdir()
    (folder / "run" / "report.html").write_text("of the first demo")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (folder / "overlays").symlink_to(elsewhere)
    assert main(["demo", "--out", str(folder), "--seed", "1"]) == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "phantoms" / "drawn").read_text() == f"{demo.PATIENTS} 1"
    assert not (folder / demo.BUNDLE).exists()
    assert not (folder / "run").exists()
    assert (elsewhere / "kept").exists()


@pytest.mark.parametrize(("ends_at", "folders"), [("export", ["run"]), ("bench", ["run", demo.EVIDENCE])])
def test_the_last_report_comes_last(tmp_path, steps, capsys, monkeypatch, ends_at, folders):
    """The export's, and where there is none the training's."""
    folder = tmp_path / "demo"
    written = {"train": "run", "export": demo.EVIDENCE}

    def command(words):
        if words[0] in written and words[0] != ends_at:
            (folder / written[words[0]]).mkdir()
            (folder / written[words[0]] / "report.html").touch()
        return 2 if words[0] == ends_at else 0

    monkeypatch.setattr(demo, "main", command)
    assert main(["demo", "--out", str(folder)]) == 2
    last = capsys.readouterr().out.splitlines()[-len(folders) :]
    assert last == [f"report: {folder / name / 'report.html'}" for name in folders]


def test_a_folder_of_something_else_is_refused_untouched(steps, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "is neither empty nor a demo's own" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "model.keras"]
    file = tmp_path / "run" / "model.keras"
    assert main(["demo", "--out", str(file)]) == 2
    assert file.is_file()


def test_the_first_two_steps_train_and_export_with_the_seed_of_the_demo(tmp_path):
    """So that trials of the demo (benchmarks/demo_trials.py) do what it does."""
    train, export = itertools.islice(demo.steps(tmp_path, 7), 2)
    assert train[:2] == ["train", str(tmp_path / "phantoms")]
    assert train[train.index("--recipe") + 1] == "demo"
    assert train[train.index("--seed") + 1] == "7"
    assert "split.seed=7" in train
    assert export == ["export", str(tmp_path / "run"), "--out", str(tmp_path / demo.BUNDLE)]


def test_a_demo_holds_out_what_the_strict_gates_need():
    """Each of four series is a quarter of the children; two of them are the subtypes of the positive class."""
    recipe, strict = read_recipe("demo"), strict_policy()
    of_series = demo.PATIENTS // 4
    val, shift = (round(share * of_series) for share in (recipe.split.val_fraction, recipe.split.shift_fraction))
    assert clopper_pearson_upper(0, val + shift) <= strict.subgroups.new_misses.margin
    images = 1.25 * 2 * val  # of the geometric distribution that `phantom` draws their number from
    missed = math.floor((1 - recipe.operate.target_sensitivity) * images)
    lost = np.where(np.arange(round(images)) < missed, -1.0, 0.0)
    patients = [f"{image % (2 * val)}" for image in range(round(images))]
    assert missed == 2
    assert clustered_loss(lost, patients, strict.confidence) <= strict.shifts.sensitivity.margin


def test_a_negative_seed_is_refused(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo"), "--seed", "-1"]) == 2
    assert "--seed is -1, expected 0 or more" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
