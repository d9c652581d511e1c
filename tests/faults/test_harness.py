"""A few of the trials, with a seed that draws each kind of fault that ends quickly; 200 are in docs/measurements.md."""

import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("harness.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits and streams are Linux's")
def test_commands_under_a_fault_end_as_documented_and_work_again() -> None:
    words = [sys.executable, str(HARNESS), "--count", "12", "--seed", "1"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    *counts, last = done.stdout.splitlines()
    assert sum(int(line.split()[0]) for line in counts) == 12
    assert last == "12 trials, seed 1: 0 findings"
