import re
from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from slimscan_edge.errors import InputError
from slimscan_train.phantom import Anatomy, Subtype, draw_phantom, write_dataset

PATIENTS = 40
NAMES = {
    "NORMAL": re.compile(r"(?P<patient>(NORMAL2-)?IM-\d{4})-\d{4}\.jpeg"),
    "PNEUMONIA": re.compile(r"(?P<patient>person\d+_(bacteria|virus))_\d+\.jpeg"),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_dataset(tmp_path_factory.mktemp("phantoms"), patients=PATIENTS, seed=0)


def patient_of(path: Path) -> str:
    match = NAMES[path.parent.name].fullmatch(path.name)
    assert match, path.name
    return match["patient"]


def pixels_of(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


@pytest.mark.parametrize("subtype", get_args(Subtype))
def test_the_same_seed_draws_the_same_picture(subtype: Subtype) -> None:
    first, again, other = (draw_phantom(np.random.default_rng(seed), subtype=subtype) for seed in (1, 1, 2))
    assert first.dtype == np.uint8
    assert first.shape == (320, 320)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (500, 230), (64, 96)])
def test_any_size_can_be_drawn(height: int, width: int) -> None:
    assert draw_phantom(np.random.default_rng(0), height=height, width=width).shape == (height, width)


def test_anatomy_stays_in_its_ranges_and_differs_between_children() -> None:
    rng = np.random.default_rng(0)
    children = [Anatomy.draw(rng) for _ in range(50)]
    assert len(set(children)) == len(children)
    for field in fields(Anatomy):
        assert np.std([getattr(child, field.name) for child in children]) > 0


def test_two_images_of_a_child_are_more_alike_than_images_of_two_children() -> None:
    """Correlation of pixels, averaged over positions and exposures."""
    rng = np.random.default_rng(0)
    children = [Anatomy.draw(rng) for _ in range(12)]
    views = [[draw_phantom(rng, anatomy=child, height=96, width=96).ravel() for _ in range(6)] for child in children]
    correlation = np.corrcoef(np.concatenate(views)).reshape(12, 6, 12, 6).mean(axis=(1, 3))
    own = np.diag(correlation)
    others = (correlation.sum(axis=1) - own) / 11
    assert np.mean(own) > np.mean(others) + 0.02


def test_names_and_sizes_follow_the_reference_data(dataset: list[Path]) -> None:
    for path in dataset:
        patient_of(path)
        assert all(224 <= side <= 500 for side in pixels_of(path).shape)
    assert len({pixels_of(path).shape for path in dataset}) > PATIENTS / 2
    assert len({path.name for path in dataset}) == len(dataset)


def test_children_are_half_normal_in_two_series_and_some_have_several_images(dataset: list[Path]) -> None:
    images = defaultdict(list)
    for path in dataset:
        images[patient_of(path)].append(path)
    assert len(images) == PATIENTS
    kinds = [re.sub(r"\d{4}|person\d+_", "", patient) for patient in images]
    assert {kind: kinds.count(kind) for kind in kinds} == {"IM-": 10, "NORMAL2-IM-": 10, "bacteria": 10, "virus": 10}
    assert max(map(len, images.values())) > 1


def test_a_seed_writes_the_same_files_and_more_children_change_none_of_them(tmp_path: Path) -> None:
    few = write_dataset(tmp_path / "few", patients=4, seed=7)
    more = write_dataset(tmp_path / "more", patients=8, seed=7)
    assert [path.read_bytes() for path in few] == [path.read_bytes() for path in more[: len(few)]]
    assert [path.name for path in few] == [path.name for path in more[: len(few)]]


def test_phantoms_are_never_mixed_with_other_images(tmp_path: Path) -> None:
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL" / "IM-0115-0001.jpeg").touch()
    with pytest.raises(InputError, match="not empty"):
        write_dataset(tmp_path, patients=1, seed=0)


def test_brightness_and_contrast_do_not_tell_the_classes_apart(tmp_path: Path) -> None:
    paths = write_dataset(tmp_path, patients=160, seed=3)
    diseased = [path.parent.name == "PNEUMONIA" for path in paths]
    pictures = [pixels_of(path) for path in paths]
    for statistic in (np.mean, np.median, np.std):
        auroc = roc_auc_score(diseased, [statistic(picture) for picture in pictures])
        assert 0.35 < auroc < 0.65, statistic.__name__
