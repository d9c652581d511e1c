import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slimscan_edge.errors import InputError
from slimscan_edge.operating_point import OperatingPoint
from slimscan_train.config import TrainConfig, config_from
from slimscan_train.dataset import Dataset, LabelledImage, read_dataset
from slimscan_train.run import ScoreRow, read_run, read_scores, write_operating_point, write_scores
from slimscan_train.split import UNREADABLE, Split, read_split, write_split
from slimscan_train.style import style_frequencies
from slimscan_train.training import start_run, training_set

POINT = OperatingPoint(target_sensitivity=0.98, refer_low=0.5, refer_high=0.5, chosen_on="nothing")
SMALL = config_from({"preprocess": {"height": 16, "width": 16}}, where="test")


@pytest.fixture
def dataset(tmp_path: Path, draw: Callable[..., Path]) -> Dataset:
    """Ten patients of each of four series, two small noisy pictures each."""
    seed = 0
    for number in range(1, 11):
        for image in (1, 2):
            for name in (
                f"NORMAL/IM-{number:04d}-{image:04d}.png",
                f"NORMAL/NORMAL2-IM-{number:04d}-{image:04d}.png",
                f"PNEUMONIA/person{number}_bacteria_{image}.png",
                f"PNEUMONIA/person{number}_virus_{image}.png",
            ):
                draw(tmp_path / "data" / name, seed=(seed := seed + 1))
    return read_dataset(tmp_path / "data")


def start(dataset: Dataset, folder: Path, *, split: Path | None = None, unreadable: float = 0.05) -> Split:
    return start_run(dataset, SMALL, folder, given_split=split, max_unreadable=unreadable)


def damage(dataset: Dataset, *paths: str) -> Dataset:
    for path in paths:
        (dataset.root / path).write_bytes(b"no picture")
    return read_dataset(dataset.root)


def test_a_started_run_says_what_was_asked(dataset: Dataset, tmp_path: Path) -> None:
    split = start(dataset, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.toml", "data.json", "split.json"]
    assert read_split(tmp_path / "run" / "split.json") == split
    table = json.loads((tmp_path / "run" / "data.json").read_text())
    assert table == {
        "root": str(dataset.root.resolve()),
        "naming": "kermany",
        "reading": {"naming": None, "positive": None, "columns": {}, "root": None},
        "unreadable": {},
        "teachers": [],
        "weights": None,
        "lungs": None,
    }


def test_a_folder_that_holds_anything_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"run is not empty; give another folder, or go on with --resume"):
        start(dataset, tmp_path / "run")


def test_a_file_in_place_of_the_folder_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    for folder in (tmp_path / "run", tmp_path / "run" / "below"):
        with pytest.raises(InputError, match=r"(is no folder for a run|cannot be written) \(Not a directory\)"):
            start(dataset, folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.toml", "[fit"),
        ("config.toml", "[fit]\nepochs = 2.5\n"),
        ("operating_point.json", "[]"),
        ("operating_point.json", '{"threshold": "0.5"}'),
        ("operating_point.json", ""),
        ("data.json", "[]"),
        ("data.json", '{"root": 3}'),
    ],
)
def test_a_run_with_a_damaged_file_is_refused_by_its_name(
    dataset: Dataset, tmp_path: Path, file: str, content: str
) -> None:
    start(dataset, tmp_path / "run")
    write_operating_point(tmp_path / "run" / "operating_point.json", POINT)
    read_run(tmp_path / "run")
    (tmp_path / "run" / file).write_text(content)
    with pytest.raises(InputError, match=file):
        read_run(tmp_path / "run")


def test_an_unreadable_image_is_left_out_and_listed_and_its_patients_others_stay(
    dataset: Dataset, tmp_path: Path
) -> None:
    bad = "NORMAL/IM-0003-0002.png"
    split = start(damage(dataset, bad), tmp_path / "run")
    assert [image.path for image in split.select(UNREADABLE)] == [bad]
    assert "1 UNREADABLE images left out" in split.describe()
    (other,) = (image for image in split.images if image.path == "NORMAL/IM-0003-0001.png")
    assert other.split in ("train", "val", "val_shift")
    listed = json.loads((tmp_path / "run" / "data.json").read_text())["unreadable"]
    assert len(listed) == 1
    assert "IM-0003-0002.png is not a readable image" in "".join(listed.values())
    assert read_split(tmp_path / "run" / "split.json") == split


def test_too_many_unreadable_images_leave_no_run(dataset: Dataset, tmp_path: Path) -> None:
    worse = damage(dataset, "NORMAL/IM-0003-0002.png", "PNEUMONIA/person1_virus_1.png")
    with pytest.raises(InputError, match=r"2 of 80 images cannot be read, at most 1.0% may"):
        start(worse, tmp_path / "run", unreadable=0.01)
    assert not (tmp_path / "run").exists()


def test_a_given_split_is_kept(dataset: Dataset, tmp_path: Path) -> None:
    first = start(dataset, tmp_path / "first")
    swap = {"train": "val", "val": "train"}
    other = replace(first, images=tuple(replace(i, split=swap.get(i.split, i.split)) for i in first.images))
    write_split(tmp_path / "other.json", other)
    assert start(dataset, tmp_path / "second", split=tmp_path / "other.json") == other


def made(dataset: Dataset, images: tuple[LabelledImage, ...]) -> Split:
    return Split(labels=dataset.labels, naming="kermany", images=tuple(replace(i, split="train") for i in images))


def asked(**tables: dict[str, object]) -> TrainConfig:
    return config_from({"preprocess": {"height": 16, "width": 16}, **tables}, where="test")


def test_exact_copies_are_trained_on_once_and_that_is_said(dataset: Dataset) -> None:
    one, two = dataset.root / "NORMAL/IM-0001-0001.png", dataset.root / "NORMAL/IM-0001-0002.png"
    two.write_bytes(one.read_bytes())
    split = made(dataset, read_dataset(dataset.root).images)
    said: list[str] = []
    assert len(training_set(split, asked(), dataset.root, said.append).pixels) == 79
    assert said == ["training on 79 images, 1 exact copies left out"]
    kept = training_set(split, asked(fit={"drop_duplicates": False}), dataset.root, said.append)
    assert len(kept.pixels) == 80


def test_targets_and_weights(dataset: Dataset) -> None:
    fewer = tuple(image for image in dataset.images if image.series != "NORMAL2-IM")
    split = made(dataset, fewer)
    data = training_set(split, asked(model={"outputs": 2}, fit={"balance": "weights"}), dataset.root, print)
    groups = np.array([image.group for image in fewer])
    np.testing.assert_array_equal(data.positive, groups != "normal")
    np.testing.assert_array_equal(np.isnan(data.targets[:, 1]), groups == "normal")
    np.testing.assert_array_equal(data.targets[groups == "bacteria", 1], 1.0)
    np.testing.assert_array_equal(data.targets[groups == "virus", 1], 0.0)
    assert data.weights[~data.positive].sum() == pytest.approx(data.weights[data.positive].sum())
    balanced = training_set(split, asked(fit={"balance": "batches"}), dataset.root, print)
    np.testing.assert_array_equal(balanced.weights, 1.0)
    assert balanced.frequencies is None
    by_style = training_set(split, asked(fit={"balance": "style"}), dataset.root, print)
    np.testing.assert_array_equal(by_style.weights, 1.0)
    np.testing.assert_array_equal(by_style.frequencies, style_frequencies(by_style.pixels, by_style.positive))


def test_images_that_are_gone_are_named(dataset: Dataset) -> None:
    split = made(dataset, dataset.images)
    dataset.file(dataset.images[0]).unlink()
    with pytest.raises(InputError, match=r"IM-0001-0001.png and 0 more images are gone; put the data set back"):
        training_set(split, asked(), dataset.root, print)


def test_what_is_no_finished_run_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run"):
        read_run(tmp_path)
    start(dataset, tmp_path / "run")
    with pytest.raises(InputError, match=r"the training in .*run has not ended; go on with"):
        read_run(tmp_path / "run")


def test_scores_are_read_back_exactly(tmp_path: Path) -> None:
    rows = [
        ScoreRow(
            image='a, "b".png',
            split="val",
            shift=shift,
            patient="p",
            label="NORMAL",
            group="g",
            logit=1 / 3,
            subtype_logit=2 / 3,
        )
        for shift in ("", "darker")
    ]
    write_scores(tmp_path / "scores.csv", rows)
    assert read_scores(tmp_path / "scores.csv") == rows
    whole = (tmp_path / "scores.csv").read_text()
    (tmp_path / "scores.csv").write_text(whole[: whole.rindex("g,")])
    with pytest.raises(InputError, match="cannot be read as scores"):
        read_scores(tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text("image,logit\na,much\n")
    with pytest.raises(InputError, match="cannot be read as scores"):
        read_scores(tmp_path / "scores.csv")
    with pytest.raises(InputError, match="cannot be read as scores"):
        read_scores(tmp_path / "absent.csv")
