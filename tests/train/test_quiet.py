import os
import subprocess
import sys
from pathlib import Path

import pytest

from slimscan_edge.cli import main
from slimscan_edge.errors import MachineError
from slimscan_train import quiet
from slimscan_train.quiet import held_back_stderr, load_tensorflow


def test_what_native_code_writes_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with held_back_stderr():
        os.write(2, b"a greeting\n")
    os.write(2, b"a warning\n")
    assert capfd.readouterr().err == "a warning\n"


def test_it_is_shown_when_something_goes_wrong(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with held_back_stderr():
            os.write(2, b"why: the disk is full\n")
            raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        fail()
    assert capfd.readouterr().err == "why: the disk is full\n"


def test_tensorflow_is_quiet_when_it_loads_and_when_it_compiles() -> None:
    program = (
        "from slimscan_train.quiet import load_tensorflow; load_tensorflow(); import tensorflow as tf; "
        "tf.function(lambda x: x + 1, jit_compile=True, autograph=False)(tf.zeros([3]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.fixture
def without_avx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu sse4_2 popcnt\nbugs\t\t: avx\n")
    monkeypatch.setattr(quiet, "CPUINFO", tmp_path / "cpuinfo")


@pytest.mark.usefixtures("without_avx")
@pytest.mark.parametrize(
    "words",
    [["train", "data", "--out", "run"], ["demo", "--out", "run"], ["export", "run", "--out", "a-1.0.0.slimscan"],
     ["bench", "--training"]],
)  # fmt: skip
def test_a_processor_without_avx_is_told_before_anything_is_read_or_written(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(words) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"slimscan {words[0]}: this processor has no AVX")
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("without_avx")
def test_tensorflow_is_not_loaded_without_avx() -> None:
    with pytest.raises(MachineError, match="no AVX"):
        load_tensorflow()
