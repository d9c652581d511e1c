"""Notices of native code stay off the screen, and nothing else does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slimscan_edge.notices import native_notices_dropped, stderr_into

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_spawnp"), reason="notices are dropped on POSIX systems only")
DESCRIPTORS = Path("/proc/self/fd")


def test_notices_are_dropped_and_all_else_is_passed_on_in_its_order(capfd):
    with native_notices_dropped():
        os.write(2, b"INFO: a delegate was created\nERROR: a tensor is absent\n")
        os.write(2, b"INFO: another\nhalf a line")
    os.write(2, b", and its end\n")
    assert capfd.readouterr().err == "ERROR: a tensor is absent\nhalf a line, and its end\n"


def test_what_was_said_before_an_exception_is_passed_on(capfd):
    with pytest.raises(ZeroDivisionError), native_notices_dropped():
        print(os.write(2, b"ERROR: why\n") / 0)
    os.write(2, b"INFO: of later is no concern\n")
    assert capfd.readouterr().err == "ERROR: why\nINFO: of later is no concern\n"


def test_no_descriptor_stays_open():
    before = len(list(DESCRIPTORS.iterdir()))
    for _ in range(3):
        with native_notices_dropped():
            pass
    assert len(list(DESCRIPTORS.iterdir())) == before


def aborting(body):
    """What is shown of a process that runs a program and aborts."""
    done = subprocess.run([sys.executable, "-c", f"import os\n{body}"], capture_output=True, text=True)
    assert done.returncode == -6
    return done.stderr


def test_last_words_are_shown_when_native_code_ends_the_process():
    said = "os.write(2, b'INFO: a delegate\\nterminate called: no thread\\n'); os.abort()"
    program = f"from slimscan_edge.notices import native_notices_dropped\nwith native_notices_dropped(): {said}"
    assert aborting(program) == "terminate called: no thread\n"


@pytest.mark.parametrize("options", ["", ", show_failure=True"])
def test_what_goes_into_a_file_is_shown_when_the_process_ends_meanwhile(options):
    program = (
        "import tempfile; from slimscan_edge.notices import stderr_into\n"
        f"with tempfile.TemporaryFile() as file, stderr_into(file{options}):\n"
        "    os.write(2, b'why: no thread\\n'); os.abort()"
    )
    assert aborting(program) == "why: no thread\n"


def test_it_is_shown_after_an_exception_where_that_is_asked(capfd, tmp_path):
    for show_failure, shown in ((False, ""), (True, "why\n")):
        with (tmp_path / "said").open("w+b") as file:
            with pytest.raises(ZeroDivisionError), stderr_into(file, show_failure=show_failure):
                print(os.write(2, b"why\n") / 0)
            file.seek(0)
            assert file.read() == b"why\n"
        assert capfd.readouterr().err == shown


def test_all_is_shown_where_no_process_can_be_started(capfd, monkeypatch, tmp_path):
    def refused(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawnp", refused)
    before = len(list(DESCRIPTORS.iterdir()))
    with native_notices_dropped():
        os.write(2, b"INFO: a delegate\n")
    with (tmp_path / "said").open("w+b") as file, stderr_into(file, show_failure=True):
        os.write(2, b"a pass\n")
    assert capfd.readouterr().err == "INFO: a delegate\na pass\n"
    assert len(list(DESCRIPTORS.iterdir())) == before


@pytest.mark.parametrize("stderr", ["2>&1", "2>&-"])
def test_predict_shows_none_and_needs_no_screen(xrays, golden_bundle_path, stderr):
    command = f"exec '{sys.executable}' -m slimscan_edge predict '{xrays}' --bundle '{golden_bundle_path}' {stderr}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0
    assert "positive  p(BRIGHT)" in done.stdout
    assert "INFO" not in done.stdout
