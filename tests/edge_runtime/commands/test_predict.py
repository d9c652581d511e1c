import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.classifier import NOT_A_MEDICAL_DEVICE
from slimscan_edge.cli import main
from slimscan_edge.commands.overlay_files import overlay_name
from slimscan_edge.errors import EXIT_MACHINE, ImageError, InputError
from slimscan_edge.guard import REASONS

KEYS = [
    "file",
    "decision",
    "label",
    "probability",
    "logit",
    "subtype",
    "subtype_probability",
    "reason",
    "evidence",
    "bundle",
    "bundle_sha256",
    "timings_ms",
    "overlay",
    "not_a_medical_device",
]


@pytest.fixture
def predict(golden_bundle_path, capsys):
    """Run `slimscan predict` and return its exit code, the lines on stdout and the text on stderr."""

    def ran(*words, bundle=golden_bundle_path):
        code = main(["predict", *map(str, words), "--bundle", str(bundle)])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return ran


def test_one_line_an_image_and_notes_on_stderr(predict, xrays):
    code, lines, notes = predict(xrays)
    assert code == 0
    assert lines == [
        f"positive  p(BRIGHT) = 0.997  {xrays / 'bright.png'}",
        f"negative  p(BRIGHT) = 0.002  {xrays / 'ward' / 'dark.jpeg'}",
    ]
    assert notes.count(NOT_A_MEDICAL_DEVICE) == 1
    assert "bundle brightness-1.0.0, given with --bundle" in notes
    assert "2 images: 1 positive, 1 negative" in notes
    assert "\r" not in notes  # progress is for terminals


def test_json_is_one_object_a_line(predict, xrays, golden_bundle):
    code, lines, _ = predict(xrays / "bright.png", "--json", "--threads", 1)
    assert code == 0
    (answer,) = map(json.loads, lines)
    assert list(answer) == KEYS
    assert answer["file"] == str(xrays / "bright.png")
    assert (answer["decision"], answer["label"], answer["reason"]) == ("positive", "BRIGHT", None)
    assert answer["probability"] > 0.99
    assert np.mean(answer["evidence"]) == pytest.approx(answer["logit"], abs=0.07)
    assert np.shape(answer["evidence"]) == (8, 8)
    assert answer["bundle_sha256"] == golden_bundle.sha256
    assert answer["timings_ms"].keys() == {"decode", "resize", "invoke", "decide", "total"}
    assert answer["not_a_medical_device"] == NOT_A_MEDICAL_DEVICE


def test_a_bad_image_is_rejected_with_a_reason_and_exit_code_2(predict, xrays):
    (xrays / "bad.png").write_bytes(b"")
    code, lines, notes = predict(xrays)
    assert code == 2
    assert lines[0].startswith("rejected  ")
    assert "bad.png is empty" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["positive", "negative"]
    assert "1 rejected" in notes


def test_a_rejected_image_has_null_where_an_answer_has_values(predict, xrays):
    (xrays / "bad.png").write_bytes(b"torn")
    code, lines, _ = predict(xrays / "bad.png", "--json")
    answer = json.loads(lines[0], parse_constant=pytest.fail)  # NaN is no JSON
    assert code == 2
    assert list(answer) == KEYS
    absent = {key for key, value in answer.items() if value is None}
    assert absent == set(KEYS[2:]) - {"reason", "bundle", "bundle_sha256", "not_a_medical_device"}
    assert "not a readable image" in answer["reason"]


def test_overlays_of_files_of_the_same_name_do_not_collide(predict, xrays, tmp_path, encode):
    (xrays / "ward" / "bright.png").write_bytes(encode(np.full((40, 50), 100, np.uint8), "PNG"))
    code, lines, _ = predict(xrays, "--json", "--overlay", tmp_path / "overlays")
    written = {json.loads(line)["overlay"] for line in lines}
    assert code == 0
    assert len(written) == 3
    assert written == {str(path) for path in (tmp_path / "overlays").iterdir()}
    for path in written:
        with Image.open(path) as image:
            assert image.format == "PNG"


def test_an_overlay_is_named_by_its_images_name_and_content():
    named = overlay_name(Path("stick/IM0001.jpeg"), b"one patient")
    assert named.startswith("IM0001.jpeg-")
    assert overlay_name(Path("elsewhere/IM0001.jpeg"), b"one patient") == named
    assert overlay_name(Path("stick/IM0001.jpeg"), b"the next") != named


def test_the_next_patients_overlay_takes_no_other_ones_place(predict, xrays, tmp_path, encode):
    overlays, image = tmp_path / "overlays", xrays / "bright.png"
    predict(image, "--overlay", overlays)
    (first,) = overlays.iterdir()
    drawn = first.read_bytes()
    image.write_bytes(encode(np.full((40, 50), 30, np.uint8), "PNG"))
    _, (line,), _ = predict(image, "--overlay", overlays, "--json")
    assert Path(json.loads(line)["overlay"]) != first
    assert first.read_bytes() == drawn
    image.write_bytes(b"torn")
    _, (line,), _ = predict(image, "--overlay", overlays, "--json")
    assert json.loads(line)["overlay"] is None
    assert len(list(overlays.iterdir())) == 2


def full_disk(*_):
    raise InputError("it cannot be written (No space left on device)") from OSError(
        errno.ENOSPC, "No space left on device"
    )


def test_on_a_full_disk_the_answers_go_on(predict, xrays, tmp_path, monkeypatch):
    monkeypatch.setattr("slimscan_edge.overlay.write_atomically", full_disk)
    code, lines, notes = predict(xrays, "--overlay", tmp_path / "overlays", "--json")
    assert code == EXIT_MACHINE
    assert [json.loads(line)["decision"] for line in lines] == ["positive", "negative"]
    assert [json.loads(line)["overlay"] for line in lines] == [None, None]
    assert notes.count("No space left on device") == 2
    (xrays / "bad.png").write_bytes(b"")
    code, lines, _ = predict(xrays, "--overlay", tmp_path / "overlays")
    assert (code, len(lines)) == (2, 3)  # an image that was not answered for counts for more


def in_json(path):
    """A path as JSON holds it: what is no UTF-8 in it escaped, for by itself it is no Unicode text."""
    return str(path).encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("letter", ["x", "é", "\udcff"])
def test_the_longest_names_have_overlays_that_differ(predict, tmp_path, encode, letter):
    stem = letter * (250 // len(os.fsencode(letter)))
    images = [tmp_path / f"{stem}{k}.png" for k in range(2)]
    for image in images:
        image.write_bytes(encode(np.full((9, 9), 255, np.uint8), "PNG"))
    code, lines, _ = predict(*images, "--json", "--overlay", tmp_path / "overlays")
    written = {json.loads(line)["overlay"] for line in lines}
    assert (code, len(written)) == (0, 2)
    assert written == {in_json(path) for path in (tmp_path / "overlays").iterdir()}
    assert all(Path(path).name.startswith(in_json(letter) * 100) for path in written)


def test_overlays_among_the_images_are_refused_before_anything_is_written(predict, xrays):
    code, lines, notes = predict(xrays, "--overlay", xrays / "overlays")
    assert (code, lines) == (2, [])
    assert "choose a folder outside it" in notes
    assert not (xrays / "overlays").exists()


def test_an_image_that_cannot_be_drawn_is_rejected(predict, xrays, tmp_path, monkeypatch):
    def gone(*_):
        raise ImageError("bright.png cannot be read")

    monkeypatch.setattr("slimscan_edge.commands.overlay_files.write_overlay", gone)
    code, lines, _ = predict(xrays / "bright.png", "--overlay", tmp_path / "overlays")
    assert (code, lines) == (2, ["rejected  bright.png cannot be read"])


@pytest.fixture
def standard_input(monkeypatch):
    """Lay bytes on standard input."""

    def laid(raw):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))

    return laid


@pytest.mark.parametrize("words", [[], ["--isolate"]])
def test_an_image_comes_by_standard_input(predict, xrays, tmp_path, standard_input, words):
    standard_input((xrays / "bright.png").read_bytes())
    code, lines, _ = predict("-", xrays / "ward" / "dark.jpeg", *words, "--json", "--overlay", tmp_path / "overlays")
    first, second = map(json.loads, lines)
    assert code == 0
    assert (first["file"], first["decision"], second["decision"]) == ("/dev/stdin", "positive", "negative")
    assert Path(first["overlay"]).name.startswith("stdin-")
    assert Path(first["overlay"]).exists()


def test_nothing_on_standard_input_is_rejected_like_an_empty_file(predict, standard_input):
    standard_input(b"")
    assert predict("-")[:2] == (2, ["rejected  /dev/stdin is empty"])


def test_a_file_of_that_name_is_a_file(predict, xrays, standard_input, monkeypatch):
    standard_input(b"")
    monkeypatch.chdir(xrays)
    (xrays / "bright.png").rename(xrays / "-")
    code, lines, _ = predict("./-")
    assert (code, [line.split()[0] for line in lines]) == (0, ["positive"])


def test_a_folder_for_overlays_that_cannot_be_made_is_told(predict, xrays, tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    code, _, notes = predict(xrays, "--overlay", tmp_path / "taken")
    assert code == 2
    assert "cannot be written" in notes


def test_isolated_answers_and_overlays_are_the_same(predict, xrays, tmp_path):
    (xrays / "bad.png").write_bytes(b"torn")
    answers = []
    for words in (("--overlay", tmp_path / "here"), ("--overlay", tmp_path / "apart", "--isolate")):
        code, lines, _ = predict(xrays, "--json", *words)
        assert code == 2
        for line in lines:
            answer = json.loads(line)
            drawn = answer.pop("overlay")
            del answer["timings_ms"]
            answers.append((answer, drawn and Path(drawn).read_bytes()))
    assert answers[:3] == answers[3:]
    assert [answer["decision"] for answer, _ in answers[:3]] == ["rejected", "positive", "negative"]


CRASHING = """
import json, os, signal, sys
sys.path[:] = json.loads(sys.argv[1])
from slimscan_edge import isolate
reply = isolate._reply
isolate._reply = lambda raw, spec: os.kill(os.getpid(), signal.SIGSEGV) if raw == b"crash" else reply(raw, spec)
isolate.serve()
"""


def test_images_that_crash_the_decoder_are_rejected_one_by_one_when_isolated(predict, xrays, monkeypatch):
    monkeypatch.setattr("slimscan_edge.isolate._CHILD", CRASHING)
    for name in ("a.png", "c.png", "z.png"):
        (xrays / name).write_bytes(b"crash")
    code, lines, notes = predict(xrays, "--isolate")
    assert code == 2
    assert [line.split()[0] for line in lines] == ["rejected", "positive", "rejected", "negative", "rejected"]
    assert lines[0] == f"rejected  {xrays / 'a.png'} crashed the decoder (SIGSEGV); copy or export it again"
    assert "5 images: 3 rejected, 1 positive, 1 negative" in notes


@pytest.mark.parametrize("words", [["absent.png"], ["empty_folder"]])
def test_paths_without_images_are_told(predict, tmp_path, words):
    (tmp_path / "empty_folder").mkdir()
    code, lines, notes = predict(*(tmp_path / word for word in words))
    assert (code, lines) == (2, [])
    assert notes.startswith("slimscan predict: ")


def test_a_failed_bundle_is_refused_unless_allowed_and_then_warned_of(predict, xrays, write_variant):
    failed = write_variant(verdict="FAIL")
    code, lines, notes = predict(xrays, bundle=failed)
    assert (code, lines) == (2, [])
    assert "did not pass its gates" in notes
    code, lines, notes = predict(xrays, "--allow-failed", bundle=failed)
    assert (code, len(lines)) == (0, 2)
    assert "WARNING: its gates say FAIL" in notes


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"x\xff.png", r"x\udcff.png"), (b"two\nlines\x1b[2J \xc3\xa9.png", "two\\nlines\\x1b[2J é.png")],
)
def test_a_name_of_any_bytes_is_printed_in_one_line_that_no_terminal_obeys(predict, tmp_path, encode, name, shown):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    Path(path).write_bytes(encode(np.full((9, 9), 255, np.uint8), "PNG"))
    code, lines, _ = predict(path)
    assert code == 0
    assert [line.endswith(shown) for line in lines] == [True]
    _, lines, _ = predict(path, "--json")
    assert json.loads(lines[0])["file"] == in_json(path)


def test_a_rejected_image_is_named_whoever_rejects_it(capsys, tmp_path, encode):
    """By the shipped bundle, which has a guard."""
    blank, torn = tmp_path / "blank.png", tmp_path / "torn.png"
    blank.write_bytes(encode(np.full((300, 300), 90, np.uint8), "PNG"))
    torn.write_bytes(blank.read_bytes()[:60])
    assert main(["predict", str(blank), str(torn)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"rejected  {blank} {REASONS['blank']}"
    assert lines[1].startswith(f"rejected  {torn} is ")


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5"])
def test_a_thread_count_below_one_is_refused(predict, xrays, threads, capsys):
    with pytest.raises(SystemExit) as stopped:
        predict(xrays, "--threads", threads)
    assert stopped.value.code == 2
    assert "expected a whole number from 1" in capsys.readouterr().err


def test_the_help_names_every_reason_of_the_guard_and_how_dicom_is_installed(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert [rule for rule in REASONS if rule not in words] == []
    assert "pip install 'slimscan[dicom]'" in words
