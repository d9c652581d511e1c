import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "mutations.py"


@pytest.mark.slow
def test_damaged_files_end_in_an_answer_or_a_documented_reason():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--count", "3000", "--seed", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    counts = {tuple(line.split(maxsplit=2)[1:]): int(line.split()[0]) for line in done.stdout.splitlines()}
    assert counts.pop(("inputs,", "seed 1")) == sum(counts.values()) == 3000
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "DICOM"):  # damage that always, or never, told would try nothing
        assert counts[kind, "answered"] > 0
        assert counts[kind, "refused: damaged"] > 0
    assert counts["bundle", "accepted"] > 0
    assert counts["bundle", "refused"] > 0
