import dataclasses
import json
import os
import sys
from importlib import metadata

import numpy as np
import pytest

from slimscan_bench import training_speed, training_ways
from slimscan_bench.environment import read_environment
from slimscan_bench.training_speed import Round, TrainingSpeed, measure_training_speed
from slimscan_bench.training_ways import KerasTraining, SlimscanTraining, drawn_set, preprocessing_layers, write_files
from slimscan_edge.cli import main
from slimscan_edge.errors import InputError, MachineError
from slimscan_edge.preprocess import PreprocessSpec, preprocess
from slimscan_train.augment import AugmentConfig, larger
from slimscan_train.config import read_recipe

TINY = ("preprocess.height=32", "preprocess.width=32", "model.width=0.1", "fit.batch=4")
ROUNDS = (
    Round(step_s=2.0, pipeline_s=0.5, training_s=2.2, keras_s=5.5),
    Round(step_s=4.0, pipeline_s=1.0, training_s=4.0, keras_s=8.0),
    Round(step_s=1.0, pipeline_s=0.4, training_s=1.2, keras_s=3.6),
)


@pytest.fixture
def speed():
    """An epoch of 5 steps of 4 images in three rounds of known times."""
    here = read_environment(interpreter="")
    return TrainingSpeed(
        command="slimscan bench --training",
        started="2026-01-01T00:00:00+00:00",
        config=read_recipe("demo", TINY),
        steps=5,
        warmup=0,
        rounds=ROUNDS,
        peak_memory_mib=1000.0,
        keras_peak_memory_mib=None,
        environment=here,
        environment_after=here,
    )


def test_figures_of_known_times(speed):
    assert speed.images == 20
    assert speed.images_per_second("step").values == (10.0, 5.0, 20.0)
    assert speed.images_per_second("pipeline").p50 == 40.0
    assert speed.slowdown.values == pytest.approx((0.1, 0.0, 0.2))
    assert speed.ratio.values == pytest.approx((2.5, 2.0, 3.0))  # paired: 2.5 is not the ratio of the medians
    assert speed.ratio.p50 == pytest.approx(2.5)
    low, high = speed.ratio.p50_interval
    assert 2.0 <= low < 2.5 < high <= 3.0


def test_a_machine_that_throttled_makes_the_figures_invalid(speed):
    assert speed.invalid == ()
    hot = dataclasses.replace(speed.environment, throttled_flags=0x4)
    marked = dataclasses.replace(speed, environment_after=hot)
    assert marked.to_table()["summary"]["invalid"] == ("the board reports throttled now, after the measurement",)
    assert marked.to_lines()[-1] == "INVALID: the board reports throttled now, after the measurement"


def test_the_record_keeps_every_raw_value_and_says_the_targets(speed):
    table = json.loads(json.dumps(speed.to_table()))
    assert table["schema_version"] == 1
    assert [Round(**taken) for taken in table["rounds"]] == list(ROUNDS)
    assert table["config"]["fit"]["batch"] == 4
    assert table["summary"]["slowdown"]["p50"] == pytest.approx(0.1)
    assert table["summary"]["slowdown"]["target_at_most"] == 0.1
    assert table["summary"]["ratio"]["target_at_least"] == 2.0
    said = "\n".join(speed.to_lines())
    assert "lengthens an epoch by 10.0 % (" in said
    assert "plain Keras takes 2.50 times as long" in said
    assert "peak memory 1,000.0 MiB, plain Keras unknown" in said


@pytest.mark.parametrize("backwards", [False, True])
def test_every_other_round_is_taken_backwards(backwards):
    asked = []

    class Asked:
        def ask(self, question):
            asked.append(question)
            return float(len(asked))

    taken = training_speed._take_round(Asked(), Asked(), backwards=backwards)
    ours = [SlimscanTraining.step_s, SlimscanTraining.pipeline_s, SlimscanTraining.training_s]
    order = [*ours, KerasTraining.training_s]
    assert asked == (order[::-1] if backwards else order)
    assert taken.keras_s == (1.0 if backwards else 4.0)


def test_a_process_that_ends_is_an_error():
    with pytest.raises(MachineError, match="exit code 7"), training_speed._Process(os._exit, 7):
        pass


def test_a_process_that_ended_before_it_is_asked_is_an_error():
    with training_speed._Process(dict) as process:
        process._process.kill()
        process._process.join()
        with pytest.raises(MachineError, match="exit code -9"):
            process.ask(len)


def test_both_ways_are_given_the_same_pictures(tmp_path):
    data = drawn_set(read_recipe("demo", (*TINY, "model.outputs=2")), steps=3)
    spec = larger(PreprocessSpec(height=32, width=32), AugmentConfig())
    assert (data.pixels.shape, data.pixels.dtype) == ((12, spec.height, spec.width, 1), np.uint8)
    assert data.targets.shape == (12, 2)
    assert data.positive.sum() == 6
    assert len(np.unique(data.pixels, axis=0)) == 12
    write_files(tmp_path, 12)
    files = sorted(tmp_path.glob("*/*.jpeg"), key=lambda path: path.name)
    assert [path.parent.name for path in files] == ["positive", "negative"] * 6
    for path, pixels in zip(files, data.pixels, strict=True):
        assert (preprocess(path, spec) == pixels).all()


def test_pictures_that_come_again_take_no_more_room(tmp_path, monkeypatch):
    monkeypatch.setattr(training_ways, "DRAWINGS", 2)
    write_files(tmp_path, 6)
    files = sorted(tmp_path.glob("*/*.jpeg"), key=lambda path: path.name)
    assert [path.parent.name for path in files] == ["positive", "negative"] * 3
    assert len({path.stat().st_ino for path in files}) == 2


@pytest.mark.slow
def test_keras_varies_what_the_recipe_varies_and_scales_pixels_alike():
    def names(config):
        return [type(layer).__name__ for layer in preprocessing_layers(config).layers]

    assert names(AugmentConfig()) == ["RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast", "Rescaling"]
    still = AugmentConfig(crop_area_min=1.0, crop_area_max=1.0, rotation_deg=0.0, flip=False, contrast=0.0)
    assert names(still) == ["Rescaling"]
    pixels = np.array([0, 128, 255], np.float32).reshape(1, 1, 3, 1)
    scaled = preprocessing_layers(still)(pixels, training=True).numpy().ravel()
    assert scaled == pytest.approx([-128 / 127.5, 0.0, 127 / 127.5], abs=1e-6)


@pytest.mark.slow
def test_the_command_measures_in_processes_of_their_own(tmp_path, capsys):
    out = tmp_path / "results" / "training.json"
    words = ["--recipe", "demo", "--steps", "2", "--repeats", "2", "--warmup", "1", "--json", "--out", str(out)]
    changes = [word for change in TINY for word in ("--set", change)]
    assert main(["bench", "--training", *words, *changes]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    record = json.loads(printed)
    assert record == json.loads(out.read_text())
    assert len(record["rounds"]) == 2
    assert all(seconds > 0 for taken in record["rounds"] for seconds in taken.values())
    assert (record["steps"], record["warmup"]) == (2, 1)
    assert record["config"]["preprocess"]["height"] == 32
    assert "--set fit.batch=4 --steps 2 --repeats 2 --warmup 1" in record["command"]
    assert record["environment"]["interpreter"].startswith("tensorflow 2.")
    if sys.platform == "linux":
        assert record["peak_memory_mib"] > 100
        assert record["keras_peak_memory_mib"] > 100


def test_the_command_without_the_train_extra_says_what_to_install(monkeypatch, capsys):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert main(["bench", "--training"]) == 4
    assert capsys.readouterr().err == (
        "slimscan bench: bench --training needs the 'train' extra (tensorflow is not installed); "
        "run: pip install 'slimscan[train]'\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--training", "xray.jpeg"], "IMAGE goes only without --training"),
        (["--training", "--cold-starts", "0"], "--cold-starts goes only without --training"),
        (["--training", "--allow-failed"], "--allow-failed goes only without --training"),
        (["--recipe", "demo"], "--recipe goes only with --training"),
        (["--set", "fit.batch=4"], "--set goes only with --training"),
        (["--training", "--recipe", "absent"], "no recipe 'absent'"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(words, said, capsys):
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err


def test_an_odd_batch_is_refused():
    with pytest.raises(InputError, match=r"fit\.batch is 5"):
        measure_training_speed(recipe="demo", changes=["fit.batch=5"], steps=1, warmup=0, repeats=1)
