import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimscan_edge.errors import InputError
from slimscan_train.dataset import Dataset, LabelledImage, read_dataset
from slimscan_train.split import (
    UNREADABLE,
    Split,
    SplitConfig,
    make_split,
    read_split,
    read_split_images,
    reuse_split,
    write_split,
)

Record = Callable[..., LabelledImage]
DatasetOf = Callable[[Sequence[LabelledImage]], Dataset]
SERIES = ("IM", "NORMAL2-IM", "bacteria", "virus")


@pytest.fixture(scope="session")
def cohort(record: Record) -> list[LabelledImage]:
    """Fifty patients of each of the four series, two images each, of numbers 1 to 50."""
    return [record(series, number, image=image) for series in SERIES for number in range(1, 51) for image in (1, 2)]


def patients(split: Split, name: str, series: str | None = None) -> set[str]:
    return {image.patient for image in split.select(name) if series in (None, image.series)}


@st.composite
def random_records(draw: st.DrawFn) -> list[tuple[str, int, int, str | None]]:
    """Series, number, image and, for a few, a content that other patients of the class may have as well."""
    records = []
    for series in SERIES:
        numbers = draw(st.sets(st.integers(1, 60), min_size=8, max_size=14))
        for number in numbers:
            for image in range(draw(st.integers(1, 3))):
                shared = draw(st.one_of(st.none(), st.none(), st.none(), st.integers(0, 9)))
                kind = "sick" if series in ("bacteria", "virus") else "well"
                records.append((series, number, image, None if shared is None else f"{kind}-{shared}"))
    return records


@given(drawn=random_records(), seed=st.integers(0, 2**31))
def test_no_patient_and_no_exact_copy_is_in_two_splits(
    drawn: list[tuple[str, int, int, str | None]], seed: int, record: Record, dataset_of: DatasetOf
) -> None:
    images = [
        record(series, number, image=image, **({"sha256": content} if content else {}))
        for series, number, image, content in drawn
    ]
    config = SplitConfig(seed=seed, val_fraction=0.2, shift_fraction=0.15)
    dataset = dataset_of(images)
    split = make_split(dataset, config)
    assert [replace(image, split="") for image in split.images] == list(dataset.images)
    for of in (lambda image: image.patient, lambda image: image.sha256):
        homes = Counter(key for key, _ in {(of(image), image.split) for image in split.images})
        assert set(homes.values()) == {1}
    assert {image.split for image in split.images} <= {"train", "val", "val_shift"}
    assert split == make_split(dataset, config)


def test_each_series_gives_its_share_of_patients(cohort: list[LabelledImage], dataset_of: DatasetOf) -> None:
    split = make_split(dataset_of(cohort), SplitConfig(val_fraction=0.2, shift_fraction=0.1))
    for series in SERIES:
        counts = {name: len(patients(split, name, series)) for name in ("train", "val", "val_shift")}
        assert counts == {"train": 35, "val": 10, "val_shift": 5}


def test_val_shift_holds_the_highest_numbers_of_each_series(cohort: list[LabelledImage], dataset_of: DatasetOf) -> None:
    split = make_split(dataset_of(cohort), SplitConfig(shift_fraction=0.1))
    for series in SERIES:
        assert patients(split, "val_shift", series) == {f"{series}-{number}" for number in range(46, 51)}


def test_a_series_can_be_held_out_whole(cohort: list[LabelledImage], dataset_of: DatasetOf) -> None:
    split = make_split(dataset_of(cohort), SplitConfig(shift_series=("NORMAL2-IM", "virus"), shift_fraction=0.0))
    assert {image.series for image in split.select("val_shift")} == {"NORMAL2-IM", "virus"}
    assert {image.series for image in split.select("train", "val")} == {"IM", "bacteria"}


def test_the_seed_draws_val_and_nothing_else(cohort: list[LabelledImage], dataset_of: DatasetOf) -> None:
    first, again, other = (make_split(dataset_of(cohort), SplitConfig(seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert patients(first, "val") != patients(other, "val")
    assert patients(first, "val_shift") == patients(other, "val_shift")


def test_folds_put_each_patient_into_val_once(cohort: list[LabelledImage], dataset_of: DatasetOf) -> None:
    dataset = dataset_of(cohort)
    splits = [make_split(dataset, SplitConfig(folds=5, fold=fold)) for fold in range(5)]
    shares = [patients(split, "val") for split in splits]
    assert sum(map(len, shares)) == len(set().union(*shares)) == 180  # all but the 20 of val_shift
    assert len({frozenset(patients(split, "val_shift")) for split in splits}) == 1
    for series in SERIES:
        assert [len(patients(split, "val", series)) for split in splits] == [9] * 5


def test_series_without_numbers_are_not_shifted(record: Record, dataset_of: DatasetOf) -> None:
    images = [record(series, 0, image=n, patient=f"{series}{n}") for series in ("IM", "virus") for n in range(20)]
    assert not make_split(dataset_of(images), SplitConfig(shift_fraction=0.2)).select("val_shift")


# --- splits that the data set itself names ---------------------------------------------------------------------------


def test_the_data_sets_own_val_and_test_are_kept(record: Record, dataset_of: DatasetOf) -> None:
    own = {1: "test", 2: "val"}
    images = [record(series, n, split=own.get(n, "train")) for series in SERIES for n in range(1, 31)]
    split = make_split(dataset_of(images), SplitConfig(shift_fraction=0.1))
    assert patients(split, "test") == {f"{series}-1" for series in SERIES}
    assert patients(split, "val") == {f"{series}-2" for series in SERIES}  # and no more are drawn
    assert patients(split, "val_shift") == {f"{series}-{n}" for series in SERIES for n in (28, 29, 30)}


@pytest.mark.parametrize("leak", ["patient", "copy"])
def test_a_leak_in_the_data_sets_own_splits_is_refused(leak: str, record: Record, dataset_of: DatasetOf) -> None:
    images = [record(series, n, split="train") for series in SERIES for n in range(1, 9)]
    if leak == "patient":
        images.append(record("virus", 3, image=2, split="test"))
    else:
        images.append(record("virus", 99, split="test", sha256=images[-1].sha256))
    with pytest.raises(InputError, match="in more than one split; run: slimscan audit"):
        make_split(dataset_of(images), SplitConfig())


# --- what cannot be judged is refused --------------------------------------------------------------------------------


def test_folds_of_a_data_set_with_a_val_of_its_own_are_refused(record: Record, dataset_of: DatasetOf) -> None:
    images = [record(series, n, split="val" if n > 8 else "train") for series in SERIES for n in range(1, 11)]
    with pytest.raises(InputError, match="names its own val, which every fold would share"):
        make_split(dataset_of(images), SplitConfig(folds=2))


def test_a_series_that_is_not_there_cannot_be_held_out(cohort: list[LabelledImage], dataset_of: DatasetOf) -> None:
    with pytest.raises(InputError, match=r"no series 'IMM' to hold out; the data set has .*IM"):
        make_split(dataset_of(cohort), SplitConfig(shift_series=("IMM",)))


def test_too_few_patients(record: Record, dataset_of: DatasetOf) -> None:
    with pytest.raises(InputError, match=r"split 'val' is empty.*more patients of each class"):
        make_split(dataset_of([record("IM", 1), record("virus", 1)]), SplitConfig())


def test_val_shift_of_one_class(cohort: list[LabelledImage], dataset_of: DatasetOf) -> None:
    config = SplitConfig(shift_series=("NORMAL2-IM",), shift_fraction=0.0)
    with pytest.raises(InputError, match=r"'val_shift' holds NORMAL only.*split.shift_series"):
        make_split(dataset_of(cohort), config)


def test_own_test_of_one_class(cohort: list[LabelledImage], record: Record, dataset_of: DatasetOf) -> None:
    with pytest.raises(InputError, match="'test' holds PNEUMONIA only"):
        make_split(dataset_of([*cohort, record("virus", 99, split="test")]), SplitConfig())


@pytest.mark.parametrize("bad", [{"seed": -1}, {"val_fraction": 0.0}, {"val_fraction": 0.5}, {"shift_fraction": 0.6},
                                 {"folds": 1}, {"fold": 2, "folds": 2}])  # fmt: skip
def test_a_bad_configuration(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}"):
        SplitConfig(**bad)


def test_a_torn_patient_is_no_split_but_an_unreadable_image_tears_none(record: Record) -> None:
    images = (record("IM", 1, split="train"), record("IM", 1, image=2, split=UNREADABLE))
    split = Split(labels=("NORMAL", "PNEUMONIA"), naming="kermany", images=images)
    assert "1 UNREADABLE images left out" in split.describe()
    with pytest.raises(ValueError, match="1 patients are in more than one split, IM-1 first"):
        replace(split, images=(images[0], replace(images[1], split="val")))


def test_subtypes_are_the_two_groups_of_the_positive_class(record: Record) -> None:
    images = tuple(record(series, 1) for series in SERIES)
    split = Split(labels=("NORMAL", "PNEUMONIA"), naming="kermany", images=images)
    assert split.subtypes == ("bacteria", "virus")
    with pytest.raises(InputError, match=r"set model\.outputs=1"):
        _ = replace(split, images=images[:3]).subtypes


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_split_is_read_back_and_reused(tmp_path: Path, cohort: list[LabelledImage], dataset_of: DatasetOf) -> None:
    dataset = dataset_of(cohort)
    split = make_split(dataset, SplitConfig())
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json") == split
    assert read_split_images(tmp_path / "split.json") == split.images
    assert reuse_split(split, dataset) is split


@pytest.mark.parametrize("change", ["changed", "removed", "added"])
def test_a_split_of_other_images_is_refused(
    change: str, cohort: list[LabelledImage], record: Record, dataset_of: DatasetOf
) -> None:
    split = make_split(dataset_of(cohort), SplitConfig())
    now = {
        "changed": [replace(cohort[0], sha256="other"), *cohort[1:]],
        "removed": cohort[1:],
        "added": [*cohort, record("IM", 99)],
    }[change]
    path = "NORMAL/IM-99-1.jpeg" if change == "added" else cohort[0].path
    with pytest.raises(InputError, match=f"1 images of data are not those of the split .{path} first"):
        reuse_split(split, dataset_of(now))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xff\xfe", "cannot be read as a split"),
        (b"{", "cannot be read as a split"),
        (b"[]", "schema version None, expected 1"),
        (b'{"schema_version": 2}', "schema version 2, expected 1"),
        (b'{"schema_version": 1, "labels": ["a", "b"]}', "without images, naming"),
        (b'{"schema_version": 1, "labels": ["a", "b"], "naming": "x", "images": [{"pth": 1}]}', "unknown key 'pth'"),
        (
            b'{"schema_version": 1, "labels": ["a", "b"], "naming": "x", "images": null}',
            "images is None, expected a list",
        ),
        (b'{"schema_version": 1, "labels": ["a", "b"], "naming": "x", "images": [3]}', "got int, expected a table"),
        (b'{"schema_version": 1, "labels": null, "naming": "x", "images": []}', "not iterable"),
    ],
)
def test_a_damaged_split_file_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "split.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        read_split(path)
    with pytest.raises(InputError, match="cannot be read as a split"):
        read_split(tmp_path / "absent.json")


def test_a_split_file_with_a_torn_patient_is_refused_but_can_be_audited(tmp_path: Path, record: Record) -> None:
    images = (record("IM", 1, split="train"), record("virus", 2, split="val"))
    path = tmp_path / "split.json"
    write_split(path, Split(labels=("NORMAL", "PNEUMONIA"), naming="kermany", images=images))
    table = json.loads(path.read_text())
    table["images"][1]["patient"] = "IM-1"
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match="1 patients are in more than one split"):
        read_split(path)
    assert [image.patient for image in read_split_images(path)] == ["IM-1", "IM-1"]


# --- the splits of the reference data are what they were when its runs were made -------------------------------------


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        (SplitConfig(), "5dafca70a1057763"),
        (SplitConfig(seed=5), "0605aab39187b953"),
        (SplitConfig(folds=5, fold=2), "257448e900377a7b"),
    ],
)
def test_the_splits_of_the_reference_data(config: SplitConfig, digest: str, reference_data: Dataset) -> None:
    lines = [f"{i.path} {i.label} {i.patient} {i.group} {i.split}\n" for i in make_split(reference_data, config).images]
    assert hashlib.sha256("".join(lines).encode()).hexdigest()[:16] == digest


@pytest.fixture(scope="module")
def reference_data(shared_data: Path) -> Dataset:
    return read_dataset(shared_data / "chest_xray")
