from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.errors import InputError
from slimscan_train.dataset import LabelledImage
from slimscan_train.lungs.outlines import outline_file, read_lung_boxes


def outline(folder: Path, name: str, box: tuple[int, int, int, int] | None, size: tuple[int, int] = (40, 20)) -> Path:
    """A one-bit outline that is white in `box` (left, top, right, bottom)."""
    image = Image.new("1", size)
    if box:
        image.paste(1, box)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(folder / name)
    return folder / name


def test_the_box_is_told_in_shares_of_the_frame(record: Callable[..., LabelledImage], tmp_path: Path) -> None:
    image = record("IM", 1)
    outline(tmp_path, "NORMAL/IM-1-1.png", (10, 5, 30, 15))
    np.testing.assert_allclose(read_lung_boxes(tmp_path, [image]), [[0.25, 0.25, 0.75, 0.75]])


def test_two_lungs_have_one_box(record: Callable[..., LabelledImage], tmp_path: Path) -> None:
    path = outline(tmp_path, "NORMAL/IM-1-1.png", (4, 2, 10, 6))
    both = Image.open(path)
    both.paste(1, (30, 8, 36, 18))
    both.save(path)
    np.testing.assert_allclose(read_lung_boxes(tmp_path, [record("IM", 1)]), [[0.1, 0.1, 0.9, 0.9]])


def test_an_image_without_an_outline_or_with_an_empty_one_has_no_box(
    record: Callable[..., LabelledImage], tmp_path: Path
) -> None:
    outline(tmp_path, "NORMAL/IM-1-1.png", (10, 5, 30, 15))
    outline(tmp_path, "NORMAL/IM-2-1.png", None)
    boxes = read_lung_boxes(tmp_path, [record("IM", number) for number in (1, 2, 3)])
    assert np.isfinite(boxes[0]).all()
    assert np.isnan(boxes[1:]).all()


@pytest.mark.parametrize("path", ["NORMAL/a.jpeg", "train/NORMAL/a.jpeg", "data/train/NORMAL/a.JPG"])
def test_folders_above_the_class_may_be_missing(path: str, tmp_path: Path) -> None:
    there = outline(tmp_path, "NORMAL/a.png", (1, 1, 9, 9))
    assert outline_file(tmp_path, path) == there


def test_an_outline_of_the_same_name_outside_the_class_does_not_count(tmp_path: Path) -> None:
    outline(tmp_path, "a.png", (1, 1, 9, 9))
    outline(tmp_path, "PNEUMONIA/a.png", (1, 1, 9, 9))
    assert outline_file(tmp_path, "NORMAL/a.jpeg") is None


def test_the_full_path_counts_before_its_end(tmp_path: Path) -> None:
    outline(tmp_path, "NORMAL/a.png", (1, 1, 9, 9))
    full = outline(tmp_path, "val/NORMAL/a.png", (1, 1, 9, 9))
    assert outline_file(tmp_path, "val/NORMAL/a.jpeg") == full


def test_folders_without_any_outline_and_damaged_ones_are_refused(
    record: Callable[..., LabelledImage], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is no folder"):
        read_lung_boxes(tmp_path / "none", [record("IM", 1)])
    with pytest.raises(InputError, match="holds the outline of no image"):
        read_lung_boxes(tmp_path, [record("IM", 1)])
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL" / "IM-1-1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read"):
        read_lung_boxes(tmp_path, [record("IM", 1)])
