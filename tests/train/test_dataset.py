import hashlib
import os
from pathlib import Path

import pytest

from slimscan_edge.errors import InputError
from slimscan_train.dataset import Dataset, read_dataset

NAMES = {
    "NORMAL": ("IM-0001-0001.jpeg", "NORMAL2-IM-0002-0001.jpeg"),
    "PNEUMONIA": ("person1_bacteria_1.jpeg", "person447_virus_921_1.jpeg"),
}


def put(root: Path, *paths: str) -> Path:
    """Files of different bytes; reading a data set decodes none of them."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    return root


def by_class(prefix: str = "") -> list[str]:
    return [f"{prefix}{label}/{name}" for label, names in NAMES.items() for name in names]


def table(root: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = root / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


# --- folders --------------------------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    dataset = read_dataset(put(tmp_path, *by_class()))
    assert dataset.labels == ("NORMAL", "PNEUMONIA")
    assert dataset.naming == "kermany"
    assert [image.path for image in dataset.images] == sorted(by_class())
    last = dataset.images[-1]
    assert (last.patient, last.group, last.number, last.split) == ("person447_virus", "virus", 447, "")
    assert last.sha256 == hashlib.sha256(dataset.file(last).read_bytes()).hexdigest()
    assert dataset.is_positive(last)


def test_split_folders(tmp_path: Path) -> None:
    put(tmp_path, *by_class("train/"), "test/NORMAL/IM-0009-0001.jpeg", "val/PNEUMONIA/person9_virus_9.jpeg")
    dataset = read_dataset(tmp_path)
    splits = {image.path: image.split for image in dataset.images}
    assert splits["test/NORMAL/IM-0009-0001.jpeg"] == "test"
    assert splits["val/PNEUMONIA/person9_virus_9.jpeg"] == "val"
    assert list(splits.values()).count("train") == 4


@pytest.mark.parametrize("hidden", ["NORMAL/._IM-0001-0001.jpeg", ".Trashes/NORMAL/x.jpeg", "NORMAL/.thumbs/x.png"])
def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path, hidden: str) -> None:
    put(tmp_path, *by_class(), hidden, "NORMAL/notes.txt", "README.md")
    assert len(read_dataset(tmp_path).images) == 4


@pytest.mark.parametrize("stray", ["IM-0003-0001.jpeg", "train/IM-0003-0001.jpeg"])
def test_an_image_outside_the_class_folders_is_refused(tmp_path: Path, stray: str) -> None:
    with pytest.raises(InputError, match="lies in no class folder"):
        read_dataset(put(tmp_path, *by_class(), stray))


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    put(tmp_path, *by_class())
    odd = os.fsdecode(os.fsencode(tmp_path / "NORMAL") + b"/r\xf6ntgen.jpeg")
    Path(odd).write_bytes(b"")
    with pytest.raises(InputError, match=r"NORMAL/r\\xf6ntgen.jpeg' is not in UTF-8; rename it"):
        read_dataset(tmp_path)


def test_no_image_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        read_dataset(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_dataset(tmp_path / "absent")


# --- classes --------------------------------------------------------------------------------------------------------


def test_one_class_and_three_classes_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "NORMAL/IM-0001-0001.jpeg")
    with pytest.raises(InputError, match=r"classes NORMAL; expected exactly two"):
        read_dataset(tmp_path)
    with pytest.raises(InputError, match=r"classes NORMAL, OTHER, SICK; expected exactly two"):
        read_dataset(put(tmp_path, "OTHER/IM-0002-0001.jpeg", "SICK/IM-0003-0001.jpeg"))


def test_the_positive_class_can_be_named(tmp_path: Path) -> None:
    put(tmp_path, *by_class())
    assert read_dataset(tmp_path, positive="NORMAL").labels == ("PNEUMONIA", "NORMAL")
    with pytest.raises(InputError, match="no class 'FLU'"):
        read_dataset(tmp_path, positive="FLU")


def test_a_record_of_an_unknown_class_is_no_data_set(tmp_path: Path) -> None:
    dataset = read_dataset(put(tmp_path, *by_class()))
    with pytest.raises(ValueError, match="images of class PNEUMONIA"):
        Dataset(root=tmp_path, images=dataset.images, labels=("NORMAL", "FLU"), naming="kermany")


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_name_that_most_do_not_share_is_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path, *by_class(), "NORMAL/copy of IM-0001-0001.jpeg")
    with pytest.raises(InputError, match=r"copy of IM-0001-0001.jpeg is not named by the rule 'kermany'"):
        read_dataset(tmp_path)
    dataset = read_dataset(tmp_path, naming="generic")
    assert len({image.patient for image in dataset.images}) == 5


def test_generic_naming_is_said_loudly(tmp_path: Path) -> None:
    dataset = read_dataset(put(tmp_path, "a/1.png", "a/2.png", "b/3.png"), positive="b")
    assert dataset.naming == "generic"
    assert "EVERY FILE IS TAKEN FOR A PATIENT OF ITS OWN" in dataset.describe()


def test_the_description_counts_classes_patients_and_copies(tmp_path: Path) -> None:
    put(tmp_path, *by_class(), "PNEUMONIA/person1_bacteria_2.jpeg")
    (tmp_path / "PNEUMONIA/person1_bacteria_2.jpeg").write_text("PNEUMONIA/person1_bacteria_1.jpeg")
    said = read_dataset(tmp_path).describe()
    assert said == (
        "PNEUMONIA is the positive class; 5 images (2 NORMAL, 3 PNEUMONIA) of 4 patients, 1 exact copies; "
        "naming rule 'kermany'"
    )


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_with_or_without_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    put(tmp_path, "scans/a.png", "scans/b.png", "scans/c.png")
    lines = (
        "path,label,patient,split",
        "scans/a.png,well,Åsa,train",
        "scans/b.png,sick,Bo,val",
        "scans/c.png,well,Åsa,train",
    )
    dataset = read_dataset(table(tmp_path, *lines, encoding=encoding), positive="sick")
    assert dataset.labels == ("well", "sick")
    assert dataset.naming == "column"
    assert dataset.root == tmp_path
    assert [image.patient for image in dataset.images] == ["Åsa", "Bo", "Åsa"]
    assert [image.split for image in dataset.images] == ["train", "val", "train"]


def test_a_csv_without_patients_is_read_by_the_names(tmp_path: Path) -> None:
    put(tmp_path, *by_class())
    lines = [f"{path},{path.split('/')[0]}" for path in by_class()]
    dataset = read_dataset(table(tmp_path, "path,label", *lines))
    assert dataset.naming == "kermany"
    assert {image.split for image in dataset.images} == {""}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (("file,label", "a.png,well"), "no column path; expected path, label, patient, split"),
        (("path", "a.png"), "no column label"),
        (("path,label",), "has no rows"),
        (("path,label,split", "a.png,well,fold 3", "b.png,sick,"), "the split 'fold 3'; expected train"),
        (("path,label", "a.png,well", "b.png,"), "without a path or a label"),
        (("path,label", "a.png,well", ",sick"), "without a path or a label"),
        (("path,label", "a.png,well", "b.png,sick", "a.png,sick"), "names a.png 2 times"),
        (("path,label", "a.png,well", "b.png,sick", "./a.png,sick"), "names a.png 2 times"),
        (("path,label", "a.png,well", "absent.png,sick"), "absent.png cannot be read"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, lines: tuple[str, ...], complaint: str) -> None:
    put(tmp_path, "a.png", "b.png")
    with pytest.raises(InputError, match=complaint):
        read_dataset(table(tmp_path, *lines), positive="sick")


def test_a_picture_given_as_a_table_is_refused(tmp_path: Path) -> None:
    picture = tmp_path / "x.jpeg"
    picture.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match="cannot be read as a CSV file"):
        read_dataset(picture)
