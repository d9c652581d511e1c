import shutil

import numpy as np
import pytest
from PIL import Image

from slimscan_bench.instructions import Instructions, count_instructions
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
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_answers_are_counted_apart_from_the_start(golden_bundle_path, picture):
    (ours,) = count_instructions(golden_bundle_path, picture, ())
    assert (ours.way, ours.image) == ("slimscan", "grey.png")
    assert ours.first > 10 * ours.per_answer > 10 * 90 * 120  # every pixel is looked at; Python starts, too


def test_without_valgrind_it_says_what_to_install(golden_bundle_path, picture, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MachineError, match="apt install valgrind"):
        count_instructions(golden_bundle_path, picture, ())
    options = ["--bundle", str(golden_bundle_path), "--repeats", "1", "--warmup", "0", "--cold-starts", "0"]
    assert main(["bench", str(picture), *options, "--instructions"]) == 4
    assert "apt install valgrind" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_program_that_fails_under_valgrind_is_an_error(golden_bundle_path, tmp_path):
    with pytest.raises(MachineError, match="could not count"):
        count_instructions(golden_bundle_path, tmp_path / "missing.png", ())
