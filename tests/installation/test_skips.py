"""The last lines of the tests tell what was skipped."""

import shutil
import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

valgrind = pytest.mark.skipif(True, reason="valgrind is not installed; run as root: apt-get install valgrind")

@valgrind
def test_one(): ...

def test_two():
    pytest.skip("no ARM\\nmachine; run: make arm")

@valgrind
def test_three(): ...

def test_four(): ...
"""


def test_reasons_are_counted_before_the_closing_line(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS)
    words = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path)
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    *_, first, second, closing = done.stdout.splitlines()
    assert first == "2 skipped: valgrind is not installed; run as root: apt-get install valgrind"
    assert second == "1 skipped: no ARM machine; run: make arm"
    assert closing.startswith("1 passed, 3 skipped in ")
