"""Pictures and bundles that are made for a test."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.bundle import Bundle, pack_bundle

WriteBundle = Callable[..., Path]


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """The bytes of a picture file: `encode(image or pixels, "PNG", **save options)`."""

    def encoded(picture: Image.Image | np.ndarray, file_format: str, **options: Any) -> bytes:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        buffer = io.BytesIO()
        image.save(buffer, file_format, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture
def xrays(tmp_path: Path, encode: Callable[..., bytes]) -> Path:
    """A folder with a bright and a dark picture, one of them in a folder of its own."""
    folder = tmp_path / "xrays"
    (folder / "ward").mkdir(parents=True)
    (folder / "bright.png").write_bytes(encode(np.full((40, 50), 220, np.uint8), "PNG"))
    (folder / "ward" / "dark.jpeg").write_bytes(encode(np.full((50, 40), 30, np.uint8), "JPEG"))
    return folder


@pytest.fixture
def write_variant(tmp_path: Path, golden_bundle: Bundle) -> WriteBundle:
    """Write the golden bundle with other manifest fields or members: `write_variant(verdict="FAIL")`."""
    from dataclasses import replace

    def written(*, members: dict[str, bytes] | None = None, **changes: Any) -> Path:
        path = tmp_path / "variant-1.0.0.slimscan"
        content = golden_bundle.members if members is None else members
        path.write_bytes(pack_bundle(replace(golden_bundle.manifest, **changes), content))
        return path

    return written
