import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from slimscan_edge.cli import main
from slimscan_edge.errors import InputError
from slimscan_edge.operating_point import OperatingPoint
from slimscan_train.batches import Batch, TrainingSet
from slimscan_train.config import TrainConfig, config_from
from slimscan_train.dataset import LabelledImage
from slimscan_train.distillation import Teacher, teaching_split
from slimscan_train.model import build_model
from slimscan_train.pixels import cache_folder
from slimscan_train.run import Run
from slimscan_train.split import Split

POINT = OperatingPoint(target_sensitivity=0.98, refer_low=0.5, refer_high=0.5, chosen_on="nothing")


def asked(**fit: object) -> TrainConfig:
    tables = {"preprocess": {"height": 32, "width": 32}, "model": {"width": 0.05, "outputs": 2}}
    return config_from({**tables, "fit": {"teacher_share": 0.75, **fit}}, where="test")


@pytest.fixture
def train() -> TrainingSet:
    rng = np.random.default_rng(0)
    return TrainingSet(
        pixels=rng.integers(0, 256, (8, 32, 32, 1), dtype=np.uint8),
        targets=np.array([[1, 1], [0, np.nan]] * 4, np.float32),
        weights=np.ones(8, np.float32),
        spec=asked().preprocess,
    )


def finished(
    folder: Path, *, seed: int = 0, config: TrainConfig | None = None, images: tuple[LabelledImage, ...] = ()
) -> Run:
    """A run with a model of random weights."""
    config = config or asked()
    folder.mkdir()
    build_model(config.model, 32, 32, seed=seed).save(folder / "model.keras")
    split = Split(labels=("NORMAL", "PNEUMONIA"), naming="kermany", images=images)
    return Run(folder=folder, config=config, split=split, data_root=folder, operating_point=POINT)


def batches(count: int = 2) -> Iterator[Batch]:
    import tensorflow as tf

    rng = np.random.default_rng(1)
    for _ in range(count):
        pixels = tf.constant(rng.uniform(-1, 1, (2, 32, 32, 1)).astype(np.float32))
        yield pixels, tf.constant([[1.0, 0.0], [0.0, np.nan]]), tf.ones(2), None


def test_targets_are_label_and_answer_mixed(tmp_path: Path, train: TrainingSet) -> None:
    run = finished(tmp_path / "teacher")
    model = run.model()
    for (pixels, targets, weights, _), (_, soft, same, evidence) in zip(
        batches(), Teacher([run], asked(), train).teach(batches(), 0), strict=True
    ):
        logits, seen = (output.numpy() for output in model(pixels))
        answer = 1 / (1 + np.exp(-logits))
        assert soft.numpy() == pytest.approx(0.25 * targets.numpy() + 0.75 * answer, abs=1e-3, nan_ok=True)
        assert evidence.numpy() == pytest.approx(seen, rel=1e-3, abs=1e-4)
        assert np.isnan(soft.numpy()).tolist() == [[False, False], [False, True]]  # of no subtype, nothing is taught
        assert (same.numpy() == weights.numpy()).all()


def test_two_teachers_answer_by_their_mean_logit(tmp_path: Path, train: TrainingSet) -> None:
    runs = [finished(tmp_path / f"teacher{seed}", seed=seed) for seed in (1, 2)]
    models = [run.model() for run in runs]
    config = asked(teacher_share=1.0)
    for (pixels, *_), (_, soft, *_) in zip(batches(), Teacher(runs, config, train).teach(batches(), 0), strict=True):
        logits = np.mean([model(pixels)[0].numpy() for model in models], axis=0)
        assert soft.numpy()[0] == pytest.approx(1 / (1 + np.exp(-logits[0])), abs=1e-3)


def test_answers_are_kept_and_asked_for_once(tmp_path: Path, train: TrainingSet) -> None:
    run = finished(tmp_path / "teacher")
    first = [soft.numpy() for _, soft, *_ in Teacher([run], asked(), train).teach(batches(), 3)]
    again = Teacher([run], asked(learning_rate=0.1, teacher_share=0.75), train)
    again._models = ["never called"]
    assert np.array_equal([soft.numpy() for _, soft, *_ in again.teach(batches(), 3)], first, equal_nan=True)


def test_an_epoch_that_was_stopped_keeps_no_answers(tmp_path: Path, train: TrainingSet) -> None:
    teacher = Teacher([finished(tmp_path / "teacher")], asked(seed=7), train)
    stopped = teacher.teach(batches(), 0)
    next(stopped)
    del stopped
    assert not teacher._folder.exists()


@pytest.mark.parametrize(
    "change", ["teacher", "seed", "batch", "balance", "outputs", "augment", "pixels", "targets", "frequencies", "sight"]
)
def test_answers_of_other_batches_are_not_taken_for_these(tmp_path: Path, train: TrainingSet, change: str) -> None:
    run, config, seen = finished(tmp_path / "teacher"), asked(), train
    folder = Teacher([run], config, seen)._folder
    assert folder.is_relative_to(cache_folder())
    if change == "teacher":
        run = finished(tmp_path / "other", seed=5)
    elif change in ("seed", "batch", "balance"):
        config = asked(**{change: {"seed": 1, "batch": 4, "balance": "none"}[change]})
    elif change == "outputs":
        config = replace(config, model=replace(config.model, outputs=1))
    elif change == "augment":
        config = replace(config, augment=replace(config.augment, noise=0.2))
    elif change == "pixels":
        seen = replace(train, pixels=train.pixels[::-1])
    elif change == "targets":
        seen = replace(train, targets=train.targets[::-1])
    elif change == "frequencies":
        seen = replace(train, frequencies=np.arange(1.0, 9.0))
    else:
        seen = replace(train, spec=replace(train.spec, intensity="percentile"))
    assert Teacher([run], config, seen)._folder != folder


def test_a_teacher_that_sees_other_pixels_is_refused(tmp_path: Path, train: TrainingSet) -> None:
    run = finished(tmp_path / "teacher")
    other = config_from({"preprocess": {"height": 64, "width": 64}}, where="test")
    with pytest.raises(InputError, match=r"teacher was trained on .*give both recipes the same \[preprocess\]"):
        Teacher([run], other, train)


def test_a_teacher_with_fewer_outputs_is_refused(tmp_path: Path, train: TrainingSet) -> None:
    one = replace(asked(), model=replace(asked().model, outputs=1))
    run = finished(tmp_path / "teacher", config=one)
    with pytest.raises(InputError, match="has 1 outputs, the student 2"):
        Teacher([run], asked(), train)
    Teacher([finished(tmp_path / "more")], one, train)


def test_teachers_of_two_splits_are_refused(tmp_path: Path, record) -> None:  # type: ignore[no-untyped-def]
    images = (record("IM", 1, split="train"), record("bacteria", 1, split="val"))
    moved = (record("IM", 1, split="val"), record("bacteria", 1, split="train"))
    first = finished(tmp_path / "first", images=images)
    assert teaching_split([first, finished(tmp_path / "same", images=images)]) == first.split
    with pytest.raises(InputError, match="other splits"):
        teaching_split([first, finished(tmp_path / "other", images=moved)])


@pytest.mark.slow
def test_a_student_learns_from_a_run_and_says_so(squares: Path, squares_recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe, teacher, student = (tmp_path / name for name in ("recipe.toml", "teacher", "student"))
    recipe.write_text(tomli_w.dumps(squares_recipe))
    asked = ["train", str(squares), "--recipe", str(recipe), "--epochs", "2", "--out"]
    assert main([*asked, str(teacher)]) == 0
    assert main([*asked, str(student), "--teacher", str(teacher)]) == 0
    assert json.loads((student / "data.json").read_text())["teachers"] == [str(teacher)]
    assert (student / "split.json").read_text() == (teacher / "split.json").read_text()
    alone, taught = ((folder / "history.csv").read_text() for folder in (teacher, student))
    assert alone != taught  # the same seed, images and epochs, but other targets
    again = [*asked, str(tmp_path / "again"), "--teacher", str(teacher), "--split", str(teacher / "split.json")]
    assert main(again) == 2
