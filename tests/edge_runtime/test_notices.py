"""Notices of native code stay off the screen, and nothing else does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slimscan_edge.notices import native_notices_dropped

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="notices are dropped on Linux only")
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


@pytest.mark.parametrize("stderr", ["2>&1", "2>&-"])
def test_predict_shows_none_and_needs_no_screen(xrays, golden_bundle_path, stderr):
    command = f"exec '{sys.executable}' -m slimscan_edge predict '{xrays}' --bundle '{golden_bundle_path}' {stderr}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0
    assert "positive  p(BRIGHT)" in done.stdout
    assert "INFO" not in done.stdout
