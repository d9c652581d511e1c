"""Closed and full streams, and what a terminal would obey."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slimscan_edge.program.streams import OutputLostError, ReaderGoneError, SafeStream, for_drawing, safe_streams

NEEDS_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here to write to")


@pytest.fixture
def predict(golden_bundle_path, xrays):
    """Run `predict --json` through a shell that treats its streams somehow: `predict("2>&-")`."""

    def ran(streams):
        words = (
            f"'{sys.executable}' -m slimscan_edge predict '{xrays}' --json --bundle '{golden_bundle_path}' {streams}"
        )
        return subprocess.run(["sh", "-c", words], capture_output=True, text=True)

    return ran


@pytest.mark.parametrize("streams", ["2>&-", "<&-", "<&- 2>&-", pytest.param("2>/dev/full", marks=NEEDS_FULL)])
def test_notes_are_lost_and_answers_are_not(predict, streams):
    done = predict(streams)
    assert done.returncode == 0
    assert [json.loads(line)["decision"] for line in done.stdout.splitlines()] == ["positive", "negative"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("streams", [">&-", ">&- <&-"])
def test_a_closed_output_is_told_before_anything_is_done(predict, streams):
    done = predict(streams)
    assert done.returncode == 2
    assert done.stderr == "slimscan: standard output is closed; send it to a file or to /dev/null\n"


@pytest.mark.parametrize("streams", [">&- 2>&-", ">&- 2>&- <&-"])
def test_all_closed_is_an_exit_code_alone(predict, streams):
    assert predict(streams).returncode == 2


@NEEDS_FULL
@pytest.mark.parametrize("streams", [">/dev/full", ">/dev/full 2>/dev/full", ">/dev/full 2>&-"])
def test_a_full_output_has_its_exit_code(predict, streams):
    done = predict(streams)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


def test_terminal_codes_are_shown_and_not_obeyed():
    below = io.StringIO()
    stream = SafeStream(below, forgiving=False)
    print("\r1 of 2", end="", file=stream)
    print("a\x1b[31mb\rc\x9b2Jd\u202ee\x7f\tf\ng", file=stream)
    assert below.getvalue() == "\r1 of 2a\\x1b[31mb\\rc\\x9b2Jd\\u202ee\\x7f\tf\ng\n"
    assert stream.below is below
    assert stream.isatty() is False


class Broken(io.StringIO):
    def __init__(self, exc):
        super().__init__()
        self.exc = exc

    def write(self, _):
        raise self.exc


@pytest.mark.parametrize(
    ("exc", "raised"), [(BrokenPipeError(32, "x"), ReaderGoneError), (OSError(28, "No space"), OutputLostError)]
)
def test_what_cannot_be_written_is_raised_or_forgiven(exc, raised):
    with pytest.raises(raised):
        SafeStream(Broken(exc), forgiving=False).write("a")
    assert SafeStream(Broken(exc), forgiving=True).write("a") == 1


def test_streams_are_as_before_afterwards(monkeypatch):
    before = sys.stdout, sys.stderr
    with safe_streams():
        assert (sys.stdout.below, sys.stderr.below) == before
        with safe_streams():
            assert (sys.stdout.below, sys.stderr.below) == before
        assert (for_drawing(sys.stdout), for_drawing(sys.stderr)) == before
    assert (sys.stdout, sys.stderr) == before
    monkeypatch.setattr(sys, "stderr", None)
    with safe_streams():
        print("nowhere", file=sys.stderr)
    assert sys.stderr is None


def test_the_next_file_does_not_take_a_closed_stream_s_place():
    program = (
        "import os\nfrom slimscan_edge.program.streams import safe_streams\nos.close(0); os.close(2)\n"
        "with safe_streams():\n    print(os.open('/dev/null', os.O_RDONLY) > 2)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert done.stdout == "True\n"
