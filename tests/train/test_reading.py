"""Commands on data sets as people have them: what they say first, what they record, and how a stopped run goes on."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slimscan_edge.cli import main
from slimscan_train.phantom import write_dataset
from slimscan_train.split import read_split

REPOSITORY = Path(__file__).parents[2]
TINY = ("preprocess.height=32", "preprocess.width=32", "model.width=0.05", "fit.batch=8")
ASKED = ("--epochs", "1", *(word for change in TINY for word in ("--set", change)))


def interrupt(*_: object) -> None:
    """Ctrl-C, in place of the training."""
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run is trained here: each stops where its training would begin."""
    monkeypatch.setattr("slimscan_train.commands.train.load_tensorflow", lambda: None)
    monkeypatch.setattr("slimscan_train.commands.train.train_run", interrupt)


def train(*words: object) -> int:
    return main(["train", *map(str, words)])


def pasted(line: str) -> int:
    """Run the command that a line ends with, as a shell would."""
    return main(shlex.split(line.partition("go on with: slimscan ")[2]))


@pytest.fixture
def table(phantoms: Path, tmp_path: Path) -> Path:
    """A table that takes every option to read, in a folder with a space, of images that lie elsewhere."""
    lists = tmp_path / "my lists"
    lists.mkdir()
    rows = [f"{path.relative_to(phantoms)};{int(path.parent.name == 'NORMAL')}" for path in phantoms.rglob("*.jpeg")]
    (lists / "a b.csv").write_text("\n".join(["Image, file;healthy", *rows]) + "\n")
    return lists / "a b.csv"


COLUMNS = '"path=Image, file",label=healthy'


def test_every_option_is_recorded_and_the_printed_command_goes_on(
    table: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my run"
    words = ("--columns", COLUMNS, "--root", phantoms, "--positive", "0", "--naming", "kermany", *ASKED)
    assert train(table, "--out", out, *words) == 130
    first, *_, last = capsys.readouterr().err.splitlines()[:-1]
    assert first.startswith(f"{table}: 0 is the positive class; ")
    recorded = json.loads((out / "data.json").read_text())["reading"]
    assert recorded == {
        "naming": "kermany",
        "positive": "0",
        "columns": {"path": "Image, file", "label": "healthy"},
        "root": str(phantoms),
    }
    assert read_split(out / "split.json").labels == ("1", "0")
    assert pasted(last) == 130
    again = capsys.readouterr().err.splitlines()
    assert again[0] == first
    assert again[-2] == last
    assert json.loads((out / "data.json").read_text())["reading"] == recorded


def test_a_run_is_resumed_without_its_options(
    table: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--columns", COLUMNS, "--root", phantoms, "--positive", "0", *ASKED)
    assert train(table, "--out", tmp_path / "run", *words) == 130
    capsys.readouterr()
    assert train(table, "--out", tmp_path / "run", "--resume") == 130
    said = capsys.readouterr().err
    assert "0 is the positive class" in said
    assert "--columns" in said
    moved = shutil.copytree(phantoms, tmp_path / "moved")
    assert train(table, "--out", tmp_path / "run", "--root", moved, "--resume") == 130


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (("--positive", "1"), "--positive"),
        (("--columns", "path=x"), "--columns"),
        (("--naming", "generic"), "--naming"),
    ],
)
def test_a_resumed_run_is_not_read_otherwise(
    words: tuple[str, ...],
    culprit: str,
    table: Path,
    phantoms: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ("--columns", COLUMNS, "--root", phantoms, "--positive", "0", *ASKED)
    assert train(table, "--out", tmp_path / "run", *asked) == 130
    assert train(table, "--out", tmp_path / "run", "--resume", *words) == 2
    assert f"--resume goes on as the run was asked; leave out {culprit}\n" in capsys.readouterr().err


def test_a_run_from_before_readings_were_recorded_is_resumed(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(phantoms, "--out", tmp_path / "run", *ASKED) == 130
    record = tmp_path / "run" / "data.json"
    known = json.loads(record.read_text())
    del known["reading"]
    record.write_text(json.dumps(known))
    assert train(phantoms, "--out", tmp_path / "run", "--resume") == 130
    assert "PNEUMONIA is the positive class" in capsys.readouterr().err.splitlines()[0]


def test_a_split_in_which_another_class_is_positive_is_refused(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(phantoms, "--out", tmp_path / "run", *ASKED) == 130
    split = ("--split", tmp_path / "run" / "split.json")
    assert train(phantoms, "--out", tmp_path / "other", *split, "--positive", "NORMAL", *ASKED) == 2
    assert "the split tells PNEUMONIA (positive) from NORMAL" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("command", ["audit", "train"])
def test_where_no_name_tells_the_positive_class_it_is_asked_for_in_one_line(
    command: str, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(phantoms, tmp_path / "data")
    (data / "NORMAL").rename(data / "a")
    (data / "PNEUMONIA").rename(data / "b c")
    run = ("--out", str(tmp_path / "run"), *ASKED) if command == "train" else ()
    assert main([command, str(data), *run]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert "--positive a or --positive 'b c'" in line
    assert main([command, str(data), *run, "--positive", "b c"]) in (0, 130)
    assert "b c is the positive class" in capsys.readouterr().err.splitlines()[0]


def test_covid_is_positive_and_normal_is_not(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(phantoms, tmp_path / "data")
    (data / "NORMAL").rename(data / "normal")
    (data / "PNEUMONIA").rename(data / "covid")
    assert main(["audit", str(data), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["labels"], found["positive"]) == (["normal", "covid"], "covid")
    assert said.err.startswith(f"{data}: covid is the positive class; ")


def test_links_to_nothing_count_among_the_unreadable_images(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(phantoms, tmp_path / "data")
    images = len(list(data.rglob("*.jpeg")))
    for number in range(2):
        (data / "NORMAL" / f"IM-900{number}-0001.jpeg").symlink_to("/nowhere")
    assert train(data, "--out", tmp_path / "run", *ASKED) == 2
    said = capsys.readouterr().err
    assert f"2 of {images + 2} images cannot be read" in said
    assert said.count("IM-9001-0001.jpeg is a link to nothing (/nowhere)") == 2  # when read, and when refused
    assert not (tmp_path / "run").exists()
    assert train(data, "--out", tmp_path / "run", *ASKED, "--max-unreadable", "0.2") == 130
    assert len(json.loads((tmp_path / "run" / "data.json").read_text())["unreadable"]) == 2
    assert main(["audit", str(data), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [bad["path"] for bad in found["unreadable"]] == [f"NORMAL/IM-900{number}-0001.jpeg" for number in range(2)]
    assert found["images"] == images


# --- the cases that people stumbled over, where they lie beside the project ------------------------------------------


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = Path(os.environ.get("SLIMSCAN_SHARED_CASES", REPOSITORY.parent / "shared" / "cases"))
    script /= "make_training_cases.py"
    if not script.exists():
        pytest.skip(f"no training cases in {script.parent}; set SLIMSCAN_SHARED_CASES to the folder that holds them")
    folder = tmp_path_factory.mktemp("cases")
    write_dataset(folder / "phantoms", patients=220, seed=0)
    (folder / "made").mkdir()
    subprocess.run([sys.executable, script, folder / "phantoms"], cwd=folder / "made", check=True)
    return folder / "made"


def test_a_linked_val_is_val(cases: Path, tmp_path: Path) -> None:
    assert train(cases / "linked", "--out", tmp_path / "run", *ASKED) == 130
    val = {image.path for image in read_split(tmp_path / "run" / "split.json").select("val")}
    elsewhere = cases / "linked_val_elsewhere"
    assert val == {f"val/{path.relative_to(elsewhere)}" for path in elsewhere.rglob("*.jpeg")}


def test_images_of_other_suffixes_are_read_and_dangling_links_named(
    cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cases / "passed_over"
    files = {path for path in folder.rglob("*") if path.is_file()}
    assert main(["audit", str(folder), "--json"]) == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["images"] == len(files)
    assert len(found["unreadable"]) == 10
    assert "10 files and folders cannot be read" in said.err
    assert all(f"IM-{7000 + number}-0001.jpeg is a link to nothing" in said.err for number in range(10))


def test_images_under_both_labels_are_all_named(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(cases / "conflict")]) == 0
    said = capsys.readouterr().out
    conflicts = said.partition("label conflicts")[2].partition("\nok ")[0]
    assert all(f"NORMAL/IM-{8000 + number}-0001.jpeg = PNEUMONIA/" in conflicts for number in range(50))


def test_a_patient_with_a_space_is_one_patient(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = cases / "patient_with_space.csv"
    with table.open(newline="") as file:
        names = [row["patient"] for row in csv.DictReader(file)]
    spaced = sum(name != name.strip() for name in names)
    assert train(table, "--out", tmp_path / "run", *ASKED) == 130
    assert f"have spaces around their name in {spaced} rows" in capsys.readouterr().err
    split = read_split(tmp_path / "run" / "split.json")
    patients = {name.strip() for name in names}
    assert spaced
    assert {image.patient for image in split.images} == patients
    assert len({(image.patient, image.split) for image in split.images}) == len(patients)


@pytest.mark.parametrize(("folder", "words"), [("one_odd_name", ("--naming", "generic")), ("with space", ())])
def test_the_printed_command_works_when_it_is_pasted(
    folder: str, words: tuple[str, ...], cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if words:
        assert train(cases / folder, "--out", tmp_path / "run", *ASKED) == 2
        assert "IM-0001-0001 (1).jpeg is not named by the rule 'kermany'; rename it" in capsys.readouterr().err
    assert train(cases / folder, "--out", tmp_path / "a run", *words, *ASKED) == 130
    assert pasted(capsys.readouterr().err.splitlines()[-2]) == 130
