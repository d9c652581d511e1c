"""What several stages' tests share: the golden bundle and, where it is, the real data."""

import os
from pathlib import Path

import pytest

from slimscan_edge.bundle import Bundle, read_bundle
from slimscan_edge.classifier import Classifier

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def golden_bundle_path() -> Path:
    """The committed bundle whose answer is the brightness of a picture; see tests/golden/regenerate.py."""
    return REPOSITORY / "tests" / "golden" / "brightness-1.0.0.slimscan"


@pytest.fixture(scope="session")
def golden_bundle(golden_bundle_path: Path) -> Bundle:
    return read_bundle(golden_bundle_path)


@pytest.fixture(scope="session")
def classifier(golden_bundle: Bundle) -> Classifier:
    return Classifier(golden_bundle, threads=1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real X-rays, which is no part of the project."""
    folder = Path(os.environ.get("SLIMSCAN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "chest_xray_fullsize").is_dir():
        pytest.skip(f"no real X-rays in {folder}; set SLIMSCAN_SHARED_DATA to the folder that holds them")
    return folder
