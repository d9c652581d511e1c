"""What the tests of the training package share: a cache of their own, records, small pictures and phantoms."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_train.dataset import Dataset, LabelledImage
from slimscan_train.phantom import write_dataset

# Networks of a few thousand weights gain nothing by threads, which on a busy machine mostly wait for each other.
for name, value in {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}.items():
    os.environ.setdefault(name, value)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMSCAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 phantom children, six of each series; not to be changed."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, patients=24, seed=0)
    return folder


@pytest.fixture(scope="session")
def record() -> Callable[..., LabelledImage]:
    """One record: `record("IM", 7, image=2, split="val")`, of bytes of its own unless `sha256` is given."""

    def recorded(series: str, number: int, *, image: int = 1, **changes: object) -> LabelledImage:
        positive = series in ("bacteria", "virus")
        label = "PNEUMONIA" if positive else "NORMAL"
        path = f"{label}/{series}-{number}-{image}.jpeg"
        values = {
            "path": path,
            "label": label,
            "patient": f"{series}-{number}",
            "group": series if positive else "normal",
            "series": series,
            "number": number,
            "split": "",
            "sha256": path,
        }
        return LabelledImage(**{**values, **changes})

    return recorded


@pytest.fixture(scope="session")
def dataset_of() -> Callable[[Sequence[LabelledImage]], Dataset]:
    """A data set of records, which need no files."""

    def made(images: Sequence[LabelledImage]) -> Dataset:
        ordered = tuple(sorted(images, key=lambda image: image.path))
        return Dataset(root=Path("data"), images=ordered, labels=("NORMAL", "PNEUMONIA"), naming="kermany")

    return made


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """Write a small picture, of random greys or of given pixels: `draw(path, seed=3, mode="RGB")`."""

    def drawn(
        path: Path, *, seed: int = 0, size: tuple[int, int] = (24, 20), mode: str = "L", pixels: object = None
    ) -> Path:
        if pixels is None:
            pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode).save(path)
        return path

    return drawn
