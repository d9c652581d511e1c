"""Tables of images as spreadsheets and other systems write them: each with the records that it should give."""

import shlex
from pathlib import Path

import pytest

from slimscan_edge.errors import InputError
from slimscan_train.dataset import Dataset, Reading, read_dataset
from slimscan_train.sources.tables import columns_in_words, parse_columns
from slimscan_train.split import SplitConfig, make_split

PLAIN = "path,label,patient,split\na.png,normal,P1,train\nb.png,sick,P2,val\nsub/c.png,normal,P3,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "sub/c.png", "d e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def table(folder: Path, text: str, encoding: str = "utf-8", name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def records(dataset: Dataset) -> list[tuple[str, str, str, str]]:
    return [(image.path, image.label, image.patient, image.split) for image in dataset.images]


EXPECTED = [
    ("a.png", "normal", "P1", "train"),
    ("b.png", "sick", "P2", "val"),
    ("sub/c.png", "normal", "P3", ""),
]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-sig", "utf-16-be-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_encodings_and_ends_of_lines(folder: Path, separator: str, encoding: str, end: str) -> None:
    text = PLAIN.replace(",", separator).replace("\n", end)
    if encoding.endswith("-sig") and encoding != "utf-8-sig":
        text, encoding = "\ufeff" + text, encoding.removesuffix("-sig")
    dataset = read_dataset(table(folder, text, encoding))
    assert records(dataset) == EXPECTED
    assert (dataset.labels, dataset.naming, dataset.to_lines()) == (("normal", "sick"), "column", [])


@pytest.mark.parametrize(
    "text",
    [
        'sep=;\n"path";"label";"patient";"split"\n"a.png";"normal";"P1";"train"\n"b.png";"sick";"P2";"val"\n'
        "sub/c.png;normal;P3;\n",
        "\n\nPath , LABEL, Patient ,Split\n a.png , normal,P1 ,train \n\nb.png,sick,P2,val\n,,,\n  ,\n"
        "sub/c.png,normal,P3,",
        "id,split,label,x,path,patient,\n1,TRAIN,normal,,a.png,P1,\n2,Validation,sick,,b.png,P2,\n3,,normal,9,sub/c.png,P3,\n",
        PLAIN.replace("a.png", ".\\a.png").replace("sub/c.png", "sub\\c.png"),
        PLAIN.replace("a.png", "./a.png").replace("b.png", "sub/../b.png").replace("sub/../", ""),
        PLAIN + "a.png,normal,P1,train\n./b.png,sick,P2,val\n",
        PLAIN.replace("train", "training").replace("val", "DEV"),
    ],
)
def test_what_spreadsheets_and_people_make_of_a_table(folder: Path, text: str) -> None:
    assert records(read_dataset(table(folder, text))) == EXPECTED


def test_a_field_may_hold_the_separator_and_ends_of_lines_in_quotes(folder: Path) -> None:
    (folder / "x, y.png").write_text("xy")
    text = 'path,label,patient\n"x, y.png",normal,"Doe, ""J""\nJane"\nb.png,sick,P2\n'
    assert records(read_dataset(table(folder, text)))[1] == ("x, y.png", "normal", 'Doe, "J"\nJane', "")


def test_absolute_paths_are_kept_relative_where_they_lie_under_the_root(folder: Path, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "e.png"
    elsewhere.write_text("e")
    text = f"path,label\n{folder / 'a.png'},normal\n{elsewhere},sick\n"
    dataset = read_dataset(table(folder, text))
    assert {image.path for image in dataset.images} == {"a.png", str(elsewhere)}
    assert all(dataset.file(image).exists() for image in dataset.images)


def test_paths_relative_to_another_root(folder: Path, tmp_path_factory) -> None:
    path = table(tmp_path_factory.mktemp("lists"), PLAIN)
    with pytest.raises(InputError, match=r"a.png cannot be read .* and 2 more that .*--root"):
        read_dataset(path)
    dataset = read_dataset(path, root=folder)
    assert records(dataset) == EXPECTED
    assert dataset.root == folder
    with pytest.raises(InputError, match="is no folder"):
        read_dataset(path, root=folder / "absent")


@pytest.mark.parametrize(
    "path", ["C:\\data\\a.png", "D:/xrays/a.png", "\\\\server\\share\\a.png", "file:///a.png", "~/a.png"]
)
def test_paths_of_another_machine_are_absent_and_said_to_be(folder: Path, path: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_dataset(table(folder, f"path,label\n{path},normal\nb.png,sick\n"))


def test_a_pipe_in_a_table_is_never_opened(folder: Path) -> None:
    import os

    os.mkfifo(folder / "pipe.png")
    with pytest.raises(InputError, match="no regular file"):
        read_dataset(table(folder, "path,label\npipe.png,normal\nb.png,sick\n"))


# --- columns ---------------------------------------------------------------------------------------------------------


def test_columns_of_other_names(folder: Path) -> None:
    text = "Image Index;Finding, first;Patient ID;fold\na.png;No Finding;7;train\nb.png;Mass;8;test\n"
    with pytest.raises(InputError) as refused:
        read_dataset(table(folder, text))
    said = str(refused.value)
    assert "has no column path, label; expected path, label, patient, split, got Image Index" in said
    words = 'path=Image Index,"label=Finding, first",patient=Patient ID,split=fold'
    dataset = read_dataset(table(folder, text), columns=parse_columns([words]))
    assert records(dataset) == [("a.png", "No Finding", "7", "train"), ("b.png", "Mass", "8", "test")]
    assert dataset.naming == "column"


@pytest.mark.parametrize(
    ("header", "suggested"),
    [
        ("filename,class", "--columns path=filename,label=class"),
        ("file,diagnosis", "--columns path=file,label=diagnosis"),
        ("File_Name,Target", "--columns path=File_Name,label=Target"),
        ("image_path,label", "--columns path=image_path"),
        ("path,classs", "--columns label=classs"),
        ("Image Index,Finding Labels", "--columns 'path=Image Index,label=Finding Labels'"),
        ("u,v", "--columns path=NAME,label=NAME"),
    ],
)
def test_the_nearest_names_are_suggested(folder: Path, header: str, suggested: str) -> None:
    with pytest.raises(InputError) as refused:
        read_dataset(table(folder, f"{header}\na.png,normal\nb.png,sick\n"))
    assert str(refused.value).endswith(suggested)
    if "NAME" not in suggested:
        words = shlex.split(suggested)[1:]
        assert read_dataset(table(folder, f"{header}\na.png,normal\nb.png,sick\n"), columns=parse_columns(words))


@pytest.mark.parametrize("asked", ["path=filname,label=my_diagnosis", "path=filename,label=my diagnosys"])
def test_the_nearest_names_to_what_was_asked_for_are_suggested(folder: Path, asked: str) -> None:
    path = table(folder, "filename,my_diagnosis\na.png,normal\nb.png,sick\n")
    with pytest.raises(InputError) as refused:
        read_dataset(path, columns=parse_columns([asked]))
    words = shlex.split(str(refused.value).partition("perhaps --columns ")[2])
    assert parse_columns(words) == {"path": "filename", "label": "my_diagnosis"}


def test_patients_and_splits_that_stand_under_another_name_are_told(folder: Path) -> None:
    dataset = read_dataset(table(folder, "path,label,patient_id,fold\na.png,normal,1,x\nb.png,sick,2,y\n"))
    assert dataset.to_lines() == [
        "column 'patient_id' is not read; if it names patients, say --columns patient=patient_id",
        "column 'fold' is not read; if it names splits, say --columns split=fold",
    ]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["path"], "expected OURS=THEIRS"),
        (["path="], "expected OURS=THEIRS"),
        (["paht=file"], "no column 'paht' to read; did you mean 'path'"),
        (["colour=red"], "known are path, label, patient, split"),
        (["path=a,path=b"], "names 'path' twice"),
        (["path=a", "path=b"], "names 'path' twice"),
    ],
)
def test_columns_that_are_not_understood(words: list[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_columns(words)


@pytest.mark.parametrize("columns", [{"path": "file"}, {"path": 'a "b", c', "label": "x=y"}])
def test_columns_in_words_are_parsed_again(columns: dict[str, str]) -> None:
    assert parse_columns([",".join(columns_in_words(columns.items()))]) == columns


def test_a_reading_is_the_same_from_its_table_and_its_words() -> None:
    reading = Reading(
        naming="generic", positive="-", columns=(("path", "Image, first"), ("label", "a b")), root=Path("/x y")
    )
    assert Reading.from_table(reading.to_table()) == reading
    assert reading.to_words() == [
        "--naming=generic", "--positive=-", '--columns="path=Image, first",label=a b', "--root=/x y",
    ]  # fmt: skip
    assert Reading.from_table(Reading().to_table()) == Reading()
    assert Reading().to_words() == []


# --- what contradicts itself or is cut off ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("path,label\na.png,normal\na.png,sick\n", r"names a.png 2 times \(lines 2 and 3\), as normal and sick; "),
        ("path,label,patient\na.png,normal,P1\na.png,normal,P2\nb.png,sick,\n", "as normal, P1 and normal, P2"),
        ("path,label,split\na.png,normal,train\n.\\a.png,normal,test\nb.png,sick,\n", "names a.png 2 times"),
        ("path,label\na.png,normal\nb.png,sick,more\n", "line 3, has 3 fields where the first line has 2"),
        ("path,label\na.png,normal\n\nb.png,\n", r"1 rows without a path or a label \(line 4 first\)"),
        ('path,label\na.png,normal\n"b.png,sick\n', "cannot be read as a CSV file"),
        ("path,label,label\na.png,normal,sick\n", "has 2 columns 'label'"),
        ("path,label,split\na.png,normal,fold7\nb.png,sick,\n", "line 2, names the split 'fold7'"),
        ("path,label\n", "has no rows"),
        ("", "has no column path, label"),
        ("path,label\na.png,normal\nb.png,si\0ck\n", "holds zero bytes"),
    ],
)  # fmt: skip
def test_a_table_that_contradicts_itself_is_refused_with_the_line(folder: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_dataset(table(folder, text))


def test_a_table_in_another_encoding_is_refused_with_what_to_do(folder: Path) -> None:
    with pytest.raises(InputError, match="save it as CSV in UTF-8"):
        read_dataset(table(folder, "path,label,patient\na.png,normal,Åsa\n", "latin-1"))
    with pytest.raises(InputError, match="save it as CSV in UTF-8"):
        read_dataset(table(folder, PLAIN, "utf-16-le"))


def test_repeated_rows_count_once_and_are_told(folder: Path) -> None:
    dataset = read_dataset(table(folder, PLAIN + "a.png,Normal,P1,train\n" * 3))
    assert len(dataset.images) == 3
    assert "3 rows of table.csv repeat another row, and count once" in dataset.to_lines()


def test_a_patient_with_a_space_is_the_same_patient_and_that_is_told(folder: Path) -> None:
    text = "path,label,patient\na.png,normal,P1\nb.png,sick,P1 \nsub/c.png,sick,\u00a0P1\nd e.png,normal,P2\n"
    dataset = read_dataset(table(folder, text))
    assert {image.patient for image in dataset.images} == {"P1", "P2"}
    (line,) = dataset.to_lines()
    assert line.startswith("2 patients have spaces around their name in 2 rows, and are read without: 'P1 ' is 'P1'")


def test_labels_of_0_and_1_are_a_question_that_the_user_answers(folder: Path) -> None:
    path = table(folder, "path,label\na.png,0\nb.png,1\n")
    with pytest.raises(InputError, match="--positive 0 or --positive 1"):
        read_dataset(path)
    assert read_dataset(path, positive="1").labels == ("0", "1")


def test_rows_of_which_some_name_no_patient_are_told(folder: Path) -> None:
    dataset = read_dataset(table(folder, "path,label,patient\na.png,normal,P1\nb.png,sick,\n"))
    assert dataset.naming == "generic"
    assert "1 rows name no patient, and are read by their file's name" in dataset.to_lines()


def test_a_table_of_patients_in_folders_of_their_own_is_split(folder: Path) -> None:
    lines = []
    for number in range(40):
        for view in "ab":
            path = folder / f"p{number}" / f"{view}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{number}{view}")
            lines.append(f"p{number}/{view}.png,{'sick' if number % 2 else 'normal'},{number}")
    dataset = read_dataset(table(folder, "\n".join(["path,label,patient", *lines]) + "\n"))
    split = make_split(dataset, SplitConfig(val_fraction=0.2))
    assert len(split.select("val")) == 16
    assert {image.series for image in split.images} == {"normal", "sick"}


def test_patients_by_folder_are_taken_from_a_table_only_when_asked_for(folder: Path) -> None:
    lines = []
    for number in range(8):
        for view in "ab":
            path = folder / "site" / f"p{number}" / f"{view}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number}{view}")
            lines.append(f"site/p{number}/{view}.png,{'sick' if number % 2 else 'normal'}")
    path = table(folder, "\n".join(["path,label", *lines]) + "\n")
    assert len({image.patient for image in read_dataset(path).images}) == 16
    asked = {image.patient for image in read_dataset(path, naming="folder").images}
    assert asked == {f"site/p{number}" for number in range(8)}
