import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimscan_edge.cli import main
from slimscan_edge.errors import EXIT_FAULT
from slimscan_train.fit import predict_logits, read_history
from slimscan_train.run import read_run, read_scores
from slimscan_train.shifts import SHIFTS
from slimscan_train.split import read_split
from slimscan_train.training import operating_point

TINY = ("preprocess.height=32", "preprocess.width=32", "model.width=0.05", "fit.batch=8")
ASKED = ("--epochs", "2", "--seed", "5", *(word for change in TINY for word in ("--set", change)))


def train(*words: object) -> int:
    return main(["train", *map(str, words)])


def interrupt(*_: object) -> None:
    """Ctrl-C, in place of the training."""
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def finished(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped right after it was started, and resumed."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slimscan_train.commands.train.train_run", interrupt)
        assert train(phantoms, "--out", run, *ASKED) == 130
    assert not (run / "model.keras").exists()
    assert train(phantoms, "--out", run, "--resume") == 0
    return run


@pytest.mark.slow
def test_a_finished_run_holds_all_that_was_promised(finished: Path) -> None:
    promised = {"config.toml", "split.json", "data.json", "history.csv", "model.keras", "operating_point.json",
                "scores.csv", "report.html", "logs", "checkpoint"}  # fmt: skip
    assert promised <= {path.name for path in finished.iterdir()}
    run = read_run(finished)
    assert run.config.fit.epochs == len(read_history(finished)) == 2
    assert (run.config.fit.seed, run.config.model.width) == (5, 0.05)


@pytest.mark.slow
def test_scores_cover_every_held_out_image_and_every_shift_of_val(finished: Path) -> None:
    run = read_run(finished)
    found = Counter((row.split, row.shift) for row in read_scores(finished / "scores.csv"))
    expected = {(name, ""): len(run.split.select(name)) for name in ("val", "val_shift")}
    expected.update({("val", shift): len(run.split.select("val")) for shift in SHIFTS})
    assert found == expected


@pytest.mark.slow
def test_the_saved_model_gives_the_scores_again_and_the_operating_point_is_from_validation(finished: Path) -> None:
    run = read_run(finished)
    rows = [row for row in read_scores(finished / "scores.csv") if row.split == "val"]
    val = run.split.select("val")
    for shift in ("", "gamma-1.4"):
        logits = predict_logits(run.model(), run.pixels(val, shift))[:, 0]
        np.testing.assert_allclose(logits, [row.logit for row in rows if row.shift == shift], atol=1e-4)
    every, point = read_scores(finished / "scores.csv"), run.operating_point
    assert operating_point(every, run.config, run.split.labels[1]) == point
    healthy = np.array([row.logit for row in rows if not row.shift and row.label != run.split.labels[1]])
    assert (healthy < point.logit_threshold + 1e-6).mean() >= run.config.operate.least_specificity
    assert point.chosen_on.startswith(f"val, val_shift and {len(SHIFTS)} named image shifts: ")


@pytest.mark.slow
def test_a_finished_run_is_neither_resumed_nor_overwritten(
    finished: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(phantoms, "--out", finished, "--resume") == 2
    assert "is finished; see" in capsys.readouterr().err
    assert train(phantoms, "--out", finished, *ASKED) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.slow
def test_a_report_that_was_not_written_is_written_by_resuming(finished: Path, phantoms: Path) -> None:
    scores = (finished / "scores.csv").read_bytes()
    (finished / "report.html").unlink()
    assert train(phantoms, "--out", finished, "--resume") == 0
    assert (finished / "report.html").exists()
    assert (finished / "scores.csv").read_bytes() == scores


@pytest.mark.slow
def test_its_split_serves_another_run(
    finished: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slimscan_train.commands.train.train_run", interrupt)
    words = ("--split", finished / "split.json", "--set", "split.seed=9", *ASKED)
    assert train(phantoms, "--out", tmp_path / "run", *words) == 130
    assert (tmp_path / "run" / "split.json").read_text() == (finished / "split.json").read_text()


@pytest.mark.slow
def test_a_network_starts_from_the_weights_it_was_given_and_goes_on_from_its_own(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tf_keras

    tf_keras.utils.set_random_seed(1)
    published = tf_keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3))
    file = tmp_path / "mobilenet_v2_no_top.h5"
    published.save_weights(file)
    words = ("--set", "model.network='mobilenet-v2'", "--set", "fit.learning_rate=1e-12", *ASKED)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("slimscan_train.commands.train.train_run", interrupt)
        assert train(phantoms, "--out", "run", "--weights", file.name, *words) == 130
    monkeypatch.chdir("/")
    assert train(phantoms, "--out", tmp_path / "run", "--resume") == 0
    kernel = read_run(tmp_path / "run").model().get_layer("Conv1").get_weights()[0]
    np.testing.assert_allclose(kernel, published.get_layer("Conv1").get_weights()[0].sum(axis=2, keepdims=True), 1e-4)


# --- refused before any training ------------------------------------------------------------------------------------


@pytest.fixture
def started(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped before its first epoch."""
    monkeypatch.setattr("slimscan_train.commands.train.train_run", interrupt)
    assert train(phantoms, "--out", tmp_path / "run", *ASKED) == 130
    return tmp_path / "run"


def test_stopping_says_how_to_go_on(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("slimscan_train.commands.train.train_run", interrupt)
    assert train(phantoms, "--out", tmp_path / "run", *ASKED) == 130
    assert (
        f"stopped; go on with: slimscan train {phantoms} --out {tmp_path / 'run'} --resume" in capsys.readouterr().err
    )


def test_folds_are_runs_of_their_own_with_disjoint_validation(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("slimscan_train.commands.train.train_run", interrupt)
    assert train(phantoms, "--out", tmp_path / "cv", "--folds", 2, *ASKED) == 130
    assert "--folds 2 --resume" in capsys.readouterr().err
    first, second = (read_split(tmp_path / "cv" / f"fold-{fold}" / "split.json") for fold in (0, 1))
    assert {image.patient for image in first.select("val")}.isdisjoint(i.patient for i in second.select("val"))
    assert first.select("val_shift") == second.select("val_shift")


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (("--set", "fit.epochs=3"), "--set"),
        (("--epochs", "3"), "--epochs"),
        (("--seed", "3"), "--seed"),
        (("--recipe", "default"), "--recipe"),
        (("--split", "split.json"), "--split"),
        (("--weights", "weights.h5"), "--weights"),
    ],
)
def test_a_resumed_run_cannot_be_changed(
    words: tuple[str, ...], culprit: str, started: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (started / "config.toml").read_text()
    assert train(phantoms, "--out", started, "--resume", *words) == 2
    assert f"--resume goes on as the run was asked; leave out {culprit}\n" in capsys.readouterr().err
    assert (started / "config.toml").read_text() == before


def test_a_run_is_resumed_on_its_own_images_only(
    started: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(phantoms, tmp_path / "other")
    next((other / "NORMAL").iterdir()).unlink()
    assert train(other, "--out", started, "--resume") == 2
    assert "are not those of the split" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--resume",), "holds no run to resume; to start one, give a new folder and leave out --resume"),
        (("--folds", "0"), "--folds is 0, expected 2 or more"),
        (("--folds", "-3"), "--folds is -3, expected 2 or more"),
        (("--folds", "0", "--resume"), "--folds is 0, expected 2 or more"),
        (("--folds", "21"), "expected 2 to 20 folds"),
        (("--folds", "2", "--split", "s.json"), "--split brings its own split; leave out --folds"),
        (("--set", "augment.flip=False"), "flip is 'False', expected true or false"),
        (("--set", "fit.batch=32.0"), "batch is 32.0, expected a whole number"),
        (("--recipe", "absent"), "no recipe 'absent'"),
        (("--set", "fit.epoch=3"), "did you mean 'epochs'"),
        (("--split", "absent.json"), "cannot be read as a split"),
        (("--positive", "FLU"), "no class 'FLU'"),
        (("--weights", "weights.h5"), "weights.h5 would not be used"),
        (("--recipe", "teacher", "--weights", "absent.pth"), "absent.pth is no file of weights"),
        (("--set", "model.network='mobilenet-v2'", "--weights", "absent.h5"), "absent.h5 is no HDF5 file"),
        (("--set", "split.shift_series=['IM']", "--set", "split.shift_fraction=0"), "holds NORMAL only"),
    ],
)
def test_bad_words_leave_no_run(
    words: tuple[str, ...], complaint: str, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(phantoms, "--out", tmp_path / "run", *words) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_unreadable_images_are_counted_aloud_or_refused(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shutil.copytree(phantoms, tmp_path / "data")
    victim = min((data / "NORMAL").iterdir())
    victim.write_bytes(victim.read_bytes()[:500])
    assert train(data, "--out", tmp_path / "run", *ASKED) == 2
    said = capsys.readouterr().err
    assert f"1 of {len([*data.rglob('*.jpeg')])} images cannot be read" in said
    assert victim.name in said

    called: list[Callable[..., object]] = []
    monkeypatch.setattr("slimscan_train.commands.train.train_run", lambda *words: called.append(words) or 1 / 0)
    assert train(data, "--out", tmp_path / "run", *ASKED, "--max-unreadable", "0.1") == EXIT_FAULT
    assert called
    assert "1 UNREADABLE images left out" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "run" / "data.json").read_text())["unreadable"]) == 1
