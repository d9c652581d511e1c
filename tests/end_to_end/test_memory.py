"""What one answer takes of a small machine's memory, as the kernel counts it from the process's first instruction."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MOST_MIB = 64.0
MEASURED = """
import sys
from pathlib import Path
from slimscan_edge.cli import main
code = main(["predict", *sys.argv[1:]])
status = Path("/proc/self/status").read_text()
print(code, int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's peak memory")
@pytest.mark.parametrize("words", [(), ("--isolate",)], ids=["here", "isolated"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_one_full_size_jpeg_is_answered_in_64_mib(tmp_path: Path, mode: str, words: tuple[str, ...]) -> None:
    small = np.random.default_rng(0).integers(40, 200, (300, 340), np.uint8)
    path = tmp_path / "xray.jpeg"
    Image.fromarray(small).resize((2900, 2534), Image.Resampling.BICUBIC).convert(mode).save(path, quality=95)
    command = [sys.executable, "-c", MEASURED, str(path), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, peak_mib = done.stdout.splitlines()[-1].split()
    assert code in ("0", "2")  # such a picture may be rejected, after all of it was done
    assert 20.0 < float(peak_mib) <= MOST_MIB
