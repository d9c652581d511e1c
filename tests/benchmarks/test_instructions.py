import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_bench.instructions import ANSWERS, Instructions, count_instructions
from slimscan_edge.cli import main
from slimscan_edge.errors import MachineError


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((90, 120), 200, np.uint8)).save(path)
    return path


def test_what_one_more_answer_takes_leaves_the_start_out():
    assert Instructions(way="slimscan", image="x", first=1000, more=1500).per_answer == 50.0


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="valgrind is not installed; run as root: apt-get install valgrind"
)
def test_answers_are_counted_apart_from_the_start(golden_bundle_path, picture):
    (ours,) = count_instructions(golden_bundle_path, picture, ())
    assert (ours.way, ours.image) == ("slimscan", "grey.png")
    assert ours.first > 10 * ours.per_answer > 10 * 90 * 120  # every pixel is looked at; Python starts, too


def test_without_valgrind_it_says_what_to_install(golden_bundle_path, picture, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MachineError, match="apt install valgrind"):
        count_instructions(golden_bundle_path, picture, ())
    options = [
        "--bundle",
        str(golden_bundle_path),
        "--processes",
        "1",
        "--repeats",
        "1",
        "--warmup",
        "0",
        "--cold-starts",
        "0",
    ]
    assert main(["bench", str(picture), *options, "--instructions"]) == 4
    assert "apt install valgrind" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="valgrind is not installed; run as root: apt-get install valgrind"
)
def test_a_program_that_fails_under_valgrind_is_an_error(golden_bundle_path, tmp_path):
    with pytest.raises(MachineError, match="could not count"):
        count_instructions(golden_bundle_path, tmp_path / "missing.png", ())


@pytest.fixture(scope="module")
def gate():
    """The program that `make instructions` runs."""
    spec = importlib.util.spec_from_file_location("count_instructions", Path(__file__).parent / "count_instructions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def baseline(gate):
    return Instructions(**json.loads(gate.BASELINE.read_text())["counted"])


def test_a_tenth_more_instructions_is_refused_and_what_counts_differ_by_is_not(gate, baseline):
    tenth = round(0.1 * ANSWERS * baseline.per_answer)
    assert gate.excess(baseline, baseline) == []
    slower = dataclasses.replace(baseline, more=baseline.more + tenth)
    (told,) = gate.excess(slower, baseline)
    assert told.startswith("an answer takes ")
    assert "+10.0% of the baseline's" in told
    noise = round(0.01 * ANSWERS * baseline.per_answer)
    assert gate.excess(dataclasses.replace(baseline, more=baseline.more + noise), baseline) == []
    late = dataclasses.replace(
        baseline, first=round(1.1 * baseline.first), more=baseline.more + round(0.1 * baseline.first)
    )
    (told,) = gate.excess(late, baseline)
    assert told.startswith("start and first answer takes ")


def plant(gate, packages, counted, path, monkeypatch):
    """Let a file be the baseline."""
    path.write_text(json.dumps({"packages": packages, "counted": dataclasses.asdict(counted)}))
    monkeypatch.setattr(gate, "BASELINE", path)


@pytest.mark.parametrize(
    ("share", "code", "words"), [(1.0, 0, ""), (1.1, 1, "instructions: an answer takes"), (0.5, 0, "")]
)
def test_the_gate_ends_with_what_it_found(gate, baseline, monkeypatch, tmp_path, capsys, share, code, words):
    plant(gate, gate.packages(), baseline, tmp_path / "baseline.json", monkeypatch)
    counted = dataclasses.replace(baseline, more=baseline.first + round(share * ANSWERS * baseline.per_answer))
    monkeypatch.setattr(gate, "count", lambda: counted)
    monkeypatch.setattr("sys.argv", ["count_instructions.py"])
    assert gate.main() == code
    assert words in capsys.readouterr().err


def test_other_packages_and_an_absent_valgrind_are_told_and_do_not_fail(gate, baseline, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["count_instructions.py"])
    plant(gate, {"numpy": "0"}, baseline, tmp_path / "other.json", monkeypatch)
    assert gate.main() == 0
    assert "not compared" in capsys.readouterr().out
    plant(gate, gate.packages(), baseline, tmp_path / "this.json", monkeypatch)
    monkeypatch.setenv("PATH", "")
    assert gate.main() == 0
    assert "apt install valgrind" in capsys.readouterr().out
