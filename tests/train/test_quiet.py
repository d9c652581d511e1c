import os
import subprocess
import sys

import pytest

from slimscan_train.quiet import held_back_stderr


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
