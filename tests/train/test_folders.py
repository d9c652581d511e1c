"""Data folders as people have them: each layout with the records that it should give."""

import os
from pathlib import Path

import pytest

from slimscan_edge.errors import InputError
from slimscan_train.dataset import Dataset, read_dataset
from slimscan_train.sources.rows import split_named
from slimscan_train.split import SplitConfig, make_split


def put(root: Path, *paths: str) -> Path:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    return root


def patients(dataset: Dataset) -> dict[str, str]:
    return {image.path: image.patient for image in dataset.images}


def splits(dataset: Dataset) -> dict[str, str]:
    return {image.path: image.split for image in dataset.images}


def by_patient(*, images: int = 3, count: int = 12, prefix: str = "") -> list[str]:
    """`CLASS/PATIENT/image`, no patient in both classes."""
    return [
        f"{prefix}{label}/{label[0]}{number:03d}/{image}.png"
        for label in ("NORMAL", "PNEUMONIA")
        for number in range(count)
        for image in range(images)
    ]


# --- patients by folder ----------------------------------------------------------------------------------------------


def test_folders_below_a_class_are_patients(tmp_path: Path) -> None:
    dataset = read_dataset(put(tmp_path, *by_patient()))
    assert dataset.naming == "folder"
    assert "each folder below a class is a patient" in dataset.describe()
    assert len(dataset.images) == 72
    assert len(set(patients(dataset).values())) == 24
    assert patients(dataset)["NORMAL/N003/1.png"] == "N003"
    split = make_split(dataset, SplitConfig(val_fraction=0.2))
    homes = {(image.patient, image.split) for image in split.images}
    assert len(homes) == 24
    assert {image.split for image in split.images} == {"train", "val"}


def test_folders_below_a_patient_are_the_patients_own(tmp_path: Path) -> None:
    paths = [path.replace("/1.png", "/study1/view1/1.png") for path in by_patient()]
    dataset = read_dataset(put(tmp_path, *paths))
    assert len(set(patients(dataset).values())) == 24
    assert patients(dataset)["NORMAL/N003/study1/view1/1.png"] == "N003"


def test_large_folders_above_the_patients_are_hospitals(tmp_path: Path) -> None:
    paths = [
        path.replace("/N", "/north/N").replace("/P", "/south/P") for path in by_patient(count=40, images=2)
    ]  # 80 images in each hospital, two hospitals in each class
    paths += [path.replace("/N", "/east/N").replace("/P", "/west/P") for path in by_patient(count=40, images=2)]
    dataset = read_dataset(put(tmp_path, *(path.replace("south/PNEUMONIA", "PNEUMONIA") for path in paths)))
    assert dataset.naming == "folder"
    assert "east/N003" in set(patients(dataset).values())


@pytest.mark.parametrize("below", ["images", "2019/07"])
def test_a_folder_of_all_images_is_no_patient(tmp_path: Path, below: str) -> None:
    paths = [f"{label}/{below}/{number}.png" for label in ("COVID", "Normal") for number in range(40)]
    dataset = read_dataset(put(tmp_path, *paths))
    assert dataset.naming == "generic"
    assert dataset.labels == ("Normal", "COVID")
    assert len(set(patients(dataset).values())) == 80
    assert {image.series for image in dataset.images} == {"COVID", "Normal"}  # and so val is drawn from both


def test_names_that_tell_patients_tell_more_than_folders(tmp_path: Path) -> None:
    paths = [f"NORMAL/ward{number % 5}/IM-{number:04d}-0001.jpeg" for number in range(20)]
    paths += [f"PNEUMONIA/ward{number % 5}/person{number}_virus_{number}.jpeg" for number in range(20)]
    dataset = read_dataset(put(tmp_path, *paths))
    assert dataset.naming == "kermany"
    assert patients(dataset)["NORMAL/ward3/IM-0003-0001.jpeg"] == "IM-0003"


def test_patients_by_folder_can_be_asked_for_or_not(tmp_path: Path) -> None:
    put(tmp_path, "NORMAL/A/1.png", "NORMAL/A/2.png", "NORMAL/3.png", "SICK/B/4.png", "SICK/B/5.png")
    assert read_dataset(tmp_path).naming == "generic"
    asked = read_dataset(tmp_path, naming="folder")
    assert patients(asked) == {
        "NORMAL/3.png": "NORMAL/3.png",
        "NORMAL/A/1.png": "A",
        "NORMAL/A/2.png": "A",
        "SICK/B/4.png": "B",
        "SICK/B/5.png": "B",
    }
    many = put(tmp_path / "many", *by_patient())
    assert len(set(patients(read_dataset(many, naming="generic")).values())) == 72


def test_patients_by_folder_in_one_class_alone(tmp_path: Path) -> None:
    paths = [path for path in by_patient() if path.startswith("PNEUMONIA")]
    dataset = read_dataset(put(tmp_path, *paths, *(f"NORMAL/{number}.png" for number in range(50))))
    assert dataset.naming == "folder"
    assert len(set(patients(dataset).values())) == 12 + 50


def test_one_patient_under_both_labels_stays_together(tmp_path: Path) -> None:
    paths = [path.replace("/N0", "/0").replace("/P0", "/0") for path in by_patient()]
    dataset = read_dataset(put(tmp_path, *paths))
    assert len(set(patients(dataset).values())) == 12


# --- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TRAIN", "train"),
        ("training_set", "train"),
        ("val", "val"),
        ("valid", "val"),
        ("Validation", "val"),
        ("dev", "val"),
        ("test", "test"),
        ("Testing", "test"),
        ("test set", "test"),
        ("test-data", "test"),
        ("NORMAL", ""),
        ("test normal", ""),
        ("", ""),
        ("set", ""),
    ],
)
def test_spellings_of_a_split(name: str, split: str) -> None:
    assert split_named(name) == split


def test_splits_in_other_spellings_and_classes_in_another_case(tmp_path: Path) -> None:
    put(tmp_path, "Training/NORMAL/1.png", "Training/NORMAL/2.png", "Training/PNEUMONIA/3.png",
        "valid/normal/4.png", "valid/Pneumonia/5.png", "TEST/Normal/6.png", "TEST/pneumonia /7.png")  # fmt: skip
    dataset = read_dataset(tmp_path)
    assert dataset.labels == ("NORMAL", "PNEUMONIA")
    assert [image.split for image in dataset.images] == ["test", "test", "train", "train", "train", "val", "val"]
    assert "1 image of class 'normal' read as 'NORMAL'" in dataset.to_lines()
    assert {image.series for image in dataset.images} == {"NORMAL", "PNEUMONIA"}


def test_splits_below_the_class(tmp_path: Path) -> None:
    put(tmp_path, *(f"{label}/{split}/{label}{split}.png" for label in ("Normal", "TB") for split in ("train", "test")))
    dataset = read_dataset(tmp_path)
    assert splits(dataset)["TB/test/TBtest.png"] == "test"
    assert splits(dataset)["Normal/train/Normaltrain.png"] == "train"
    assert dataset.naming == "generic"


def test_a_class_may_be_called_as_a_split_is_spelt(tmp_path: Path) -> None:
    dataset = read_dataset(put(tmp_path, "valid/1.png", "invalid/2.png"), positive="invalid")
    assert dataset.labels == ("valid", "invalid")
    assert set(splits(dataset).values()) == {""}


def test_split_class_patient(tmp_path: Path) -> None:
    tested = [path.replace("/N0", "/N1").replace("/P0", "/P1") for path in by_patient(prefix="test/")]
    dataset = read_dataset(put(tmp_path, *by_patient(prefix="train/"), *tested))
    assert dataset.naming == "folder"
    assert len(set(patients(dataset).values())) == 48
    assert len(make_split(dataset, SplitConfig(val_fraction=0.2)).select("test")) == 72


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_linked_split_is_that_folders_split(tmp_path: Path, split: str) -> None:
    put(tmp_path / "data" / "train", *by_patient())
    put(tmp_path / "elsewhere", *(path.replace("/N0", "/N1").replace("/P0", "/P1") for path in by_patient()))
    (tmp_path / "data" / split).symlink_to("../elsewhere")
    made = make_split(read_dataset(tmp_path / "data"), SplitConfig(val_fraction=0.2))
    assert {image.path for image in made.select(split)} == {
        f"{split}/{path.replace('/N0', '/N1').replace('/P0', '/P1')}" for path in by_patient()
    }


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_that_is_linked_to_nothing_is_refused(tmp_path: Path, split: str) -> None:
    put(tmp_path / "train", *by_patient())
    (tmp_path / split).symlink_to("/nowhere")
    with pytest.raises(InputError, match=rf"{split} is a link to nothing \(/nowhere\)"):
        read_dataset(tmp_path)


def test_a_class_folder_that_may_not_be_entered_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, *by_patient())
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("N003"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"N003 cannot be searched \(Permission denied\); make it readable"):
        read_dataset(tmp_path)


def test_images_linked_to_nothing_are_told_and_are_no_images(tmp_path: Path) -> None:
    put(tmp_path, *by_patient())
    for number in range(3):
        (tmp_path / "NORMAL" / "N001" / f"{number}.jpeg").symlink_to("/nowhere")
    dataset = read_dataset(tmp_path)
    assert len(dataset.images) == 72
    assert [Path(bad.path).name for bad in dataset.unreadable] == ["0.jpeg", "1.jpeg", "2.jpeg"]
    assert "3 files and folders cannot be read" in dataset.to_lines()[-1]


def test_images_are_known_by_content_and_what_is_none_is_told(tmp_path: Path) -> None:
    put(tmp_path, *by_patient(), "NORMAL/N000/notes.txt", "README.md", "NORMAL/N000/._1.png", "Thumbs.db",
        ".ipynb_checkpoints/1.png", "__MACOSX/NORMAL/._1.png")  # fmt: skip
    (tmp_path / "NORMAL" / "N000" / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "NORMAL" / "N000" / "x.jfif").write_bytes(b"\xff\xd8\xff\xe0")
    dataset = read_dataset(tmp_path)
    assert {"NORMAL/N000/IM0001", "NORMAL/N000/x.jfif"} < {image.path for image in dataset.images}
    assert len(dataset.images) == 74
    assert sorted(Path(one.path).name for one in dataset.passed_over) == [
        "._1.png", ".ipynb_checkpoints", "README.md", "Thumbs.db", "__MACOSX", "notes.txt",
    ]  # fmt: skip
    lines = dataset.to_lines()
    assert lines[0].startswith("passed over 3 files that are no images: ")
    assert lines[1].startswith("passed over 3 hidden or system files and folders: ")


# --- what zip files make of it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["chest_xray", "chest_xray/chest_xray", "my data/v 2/x"])
def test_folders_that_only_wrap_the_data_set_are_seen_through(tmp_path: Path, wrapper: str) -> None:
    paths = [f"{split}/{path}" for split in ("train", "test") for path in ("NORMAL/a.png", "PNEUMONIA/b.png")]
    put(tmp_path / wrapper, *paths)
    put(tmp_path, "__MACOSX/chest_xray/train/NORMAL/._a.png")
    dataset = read_dataset(tmp_path)
    assert splits(dataset) == {f"{wrapper}/{path}": path.split("/")[0] for path in paths}
    assert dataset.labels == ("NORMAL", "PNEUMONIA")
    put(tmp_path / "flat" / wrapper, "covid/a.png", "normal/b.png")
    assert read_dataset(tmp_path / "flat").labels == ("normal", "covid")


@pytest.mark.parametrize("wrapper", ["", "archive (1)", "archive (1)/chest_xray"])
def test_a_data_set_that_lies_there_twice_is_refused(tmp_path: Path, wrapper: str) -> None:
    paths = [f"{split}/{path}" for split in ("train", "test") for path in ("NORMAL/a.png", "PNEUMONIA/b.png")]
    put(tmp_path / wrapper, *paths, *(f"chest_xray/{path}" for path in paths))
    with pytest.raises(InputError, match=r"holds the data set twice, itself and in .*chest_xray, as some zip"):
        read_dataset(tmp_path)
    assert len(read_dataset(tmp_path / wrapper / "chest_xray").images) == 4


def test_one_class_of_many_patients_is_one_class(tmp_path: Path) -> None:
    put(tmp_path, *(path for path in by_patient() if path.startswith("NORMAL")))
    with pytest.raises(InputError, match="holds the classes NORMAL; expected exactly two"):
        read_dataset(tmp_path)


def test_a_folder_of_images_beside_a_table_leads_to_the_table(tmp_path: Path) -> None:
    put(tmp_path, "images/1.png", "images/2.png", "labels.csv")
    with pytest.raises(InputError, match=r"does not hold two class folders; if .*labels.csv names the classes, give"):
        read_dataset(tmp_path)
    put(tmp_path / "both", "NORMAL/1.png", "TB/2.png", "labels.csv")
    assert len(read_dataset(tmp_path / "both").images) == 2


def test_spaces_and_capitals_in_names(tmp_path: Path) -> None:
    put(tmp_path / "my data", "No Finding/1 (1).PNG", "Viral Pneumonia/2.JPEG")
    dataset = read_dataset(tmp_path / "my data")
    assert dataset.labels == ("No Finding", "Viral Pneumonia")
    assert [image.path for image in dataset.images] == ["No Finding/1 (1).PNG", "Viral Pneumonia/2.JPEG"]


def test_where_no_name_tells_the_positive_class_it_is_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    with pytest.raises(InputError, match="say which one is positive: --positive a or --positive b"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, positive="A").labels == ("b", "a")


@pytest.mark.parametrize("option", [{"columns": {"path": "file"}}, {"root": Path()}])
def test_options_of_a_table_do_not_go_with_a_folder(tmp_path: Path, option: dict[str, object]) -> None:
    with pytest.raises(InputError, match="goes with a CSV file"):
        read_dataset(put(tmp_path, "a/1.png", "b/2.png"), **option)  # type: ignore[arg-type]
