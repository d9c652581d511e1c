"""What a fresh process loads before its first answer: on a small device that costs more than the answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOT_FOR_ONE_IMAGE = {
    "concurrent.futures",  # reading ahead
    "difflib",  # hints in messages
    "importlib.metadata",  # versions
    "slimscan_edge.overlay",
    "slimscan_edge.dicom",
    "slimscan_edge.isolate",
    "slimscan_edge.checkup",
    "pydicom",
    "tensorflow",
    "scipy",
}


def loaded(*words: str) -> set[str]:
    """Modules that a fresh process holds after `slimscan` with these arguments."""
    program = (
        "import sys; from slimscan_edge.cli import main; code = main(sys.argv[1:]); "
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.fixture
def bright_and_dark(xrays):
    return str(xrays / "bright.png"), str(xrays / "ward" / "dark.jpeg")


def test_one_image_is_answered_without_what_only_others_need(bright_and_dark, golden_bundle_path):
    modules = loaded("predict", bright_and_dark[0], "--bundle", str(golden_bundle_path))
    assert "slimscan_edge.classifier" in modules
    assert NOT_FOR_ONE_IMAGE.isdisjoint(modules)


def test_a_jpeg_is_read_without_what_reads_other_formats(bright_and_dark, golden_bundle_path):
    modules = loaded("predict", bright_and_dark[1], "--bundle", str(golden_bundle_path))
    assert "PIL.JpegImagePlugin" in modules
    assert {"PIL.PngImagePlugin", "PIL.GifImagePlugin", "PIL.ImageOps"}.isdisjoint(modules)


def test_several_images_are_read_ahead(bright_and_dark, golden_bundle_path):
    assert "concurrent.futures" in loaded("predict", *bright_and_dark, "--bundle", str(golden_bundle_path))


def test_help_loads_neither_numpy_nor_pillow():
    assert {"numpy", "PIL"}.isdisjoint(loaded("--help"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="/proc does not tell a process's threads")
def test_linear_algebra_starts_no_threads(bright_and_dark, golden_bundle_path):
    program = (
        "import os, sys; from slimscan_edge.cli import main; code = main(sys.argv[1:]); "
        "print(len(os.listdir('/proc/self/task')), file=sys.stderr); sys.exit(code)"
    )
    words = [sys.executable, "-c", program, "predict", bright_and_dark[0], "--bundle", str(golden_bundle_path)]
    environment = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    done = subprocess.run([*words, "--threads", "1"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "1"
