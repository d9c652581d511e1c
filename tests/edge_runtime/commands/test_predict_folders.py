"""`slimscan predict` on folders as they come: every image answered, what cannot be read told in a line of its own."""

import json
import os
from pathlib import Path

import pytest

from slimscan_edge.cli import main

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def predict(golden_bundle_path, capsys):
    def ran(*words):
        code = main(["predict", *map(str, words), "--bundle", str(golden_bundle_path)])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return ran


def decisions(lines):
    return [line.split()[0] for line in lines]


def test_the_first_line_says_which_class_is_positive(predict, xrays):
    _, _, notes = predict(xrays)
    assert "BRIGHT is the positive class" in notes.splitlines()[0]


def test_linked_folders_and_images_without_a_suffix_are_answered(predict, xrays, tmp_path):
    (xrays / "IM0001").write_bytes((xrays / "bright.png").read_bytes())
    (xrays / "x.jfif").write_bytes((xrays / "ward" / "dark.jpeg").read_bytes())
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / "linked").symlink_to(xrays)
    (xrays / "back").symlink_to(".")
    (xrays / "notes.txt").write_text("Dear colleague")
    code, lines, notes = predict(tmp_path / "stick")
    assert code == 0
    assert decisions(lines) == ["positive", "positive", "negative", "negative"]
    assert "passed over 1 file that is no image: " in notes
    assert "passed over 1 link to a folder that holds it: " in notes


def test_what_cannot_be_read_has_a_line_and_the_others_are_answered(predict, xrays, tmp_path, monkeypatch):
    (xrays / "gone.jpeg").symlink_to("nowhere")
    (xrays / "locked").mkdir()
    (xrays / "empty").mkdir()
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    code, lines, notes = predict(xrays, tmp_path / "absent.png", xrays / "empty", "--json")
    answers = [json.loads(line) for line in lines]
    reasons = {Path(answer["file"]).name: answer["reason"] for answer in answers if answer["decision"] == "rejected"}
    assert code == 2
    assert {name: reason.split(" ", 1)[1].split("(")[0].strip() for name, reason in reasons.items()} == {
        "gone.jpeg": "is a link to nothing",
        "locked": "cannot be searched",
        "absent.png": "does not exist; give image files or folders of them",
        "empty": "holds no image file",
    }
    assert sorted(answer["decision"] for answer in answers if answer["decision"] != "rejected") == [
        "negative",
        "positive",
    ]
    assert "6 images: 4 rejected, 1 positive, 1 negative" in notes


def test_bench_refuses_what_cannot_be_read_before_it_measures(xrays, golden_bundle_path, capsys):
    (xrays / "gone.jpeg").symlink_to("nowhere")
    assert main(["bench", str(xrays), "--bundle", str(golden_bundle_path)]) == 2
    assert "gone.jpeg is a link to nothing (nowhere)" in capsys.readouterr().err


def test_dicom_of_a_hospitals_cd_is_answered_as_its_png(capsys):
    pytest.importorskip("pydicom")
    cases = Path(os.environ.get("SLIMSCAN_SHARED_CASES", REPOSITORY.parent / "shared" / "cases")) / "device"
    if not (cases / "cd").is_dir():
        pytest.skip(f"no cases in {cases}; set SLIMSCAN_SHARED_CASES to the folder that holds them")
    assert main(["predict", "--json", str(cases / "plain.png"), str(cases / "cd")]) == 0
    plain, dicom = map(json.loads, capsys.readouterr().out.splitlines())
    assert dicom["file"] == str(cases / "cd" / "IM0001")
    assert dicom["decision"] == plain["decision"] == "positive"
    assert dicom["probability"] == pytest.approx(plain["probability"], abs=0.02)
