"""Where the lungs lie in each image of a data set, read from outlines that people drew.

A folder of outlines mirrors the data set: `CLASS/NAME.png` is the outline of `CLASS/NAME.jpeg`, in register with it,
white where there is lung. An image may lack one; what needs it then passes that image over.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.errors import InputError
from slimscan_train.dataset import LabelledImage


def outline_file(folder: Path, image: str) -> Path | None:
    """The outline of an image, by its path in the data set; None when there is none.

    The path may begin with folders, such as a split's, that the outlines do without: the longest end of it that names
    an outline in a class folder counts.
    """
    parts = PurePosixPath(image).with_suffix(".png").parts
    for start in range(max(1, len(parts) - 1)):
        if (found := folder.joinpath(*parts[start:])).is_file():
            return found
    return None


def read_lung_boxes(folder: Path, images: Sequence[LabelledImage]) -> NDArray[np.float32]:
    """The smallest box around the lungs of each image.

    Args:
        folder: The outlines.
        images: Records of the data set.

    Returns:
        float32 `[N, 4]`: left, top, right and bottom as shares of the frame, 0 to 1; NaN without an outline.

    Raises:
        InputError: The folder is absent, holds the outline of no image, or one that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the folder of outlines, CLASS/NAME.png for CLASS/NAME.jpeg")
    boxes = np.full((len(images), 4), np.nan, np.float32)
    for row, image in enumerate(images):
        if file := outline_file(folder, image.path):
            boxes[row] = _box(file)
    if np.isnan(boxes).all():
        raise InputError(
            f"{folder} holds the outline of no image ({images[0].path} first); expected CLASS/NAME.png for "
            "CLASS/NAME.jpeg"
        )
    return boxes


def _box(file: Path) -> tuple[float, float, float, float]:
    try:
        with Image.open(file) as picture:
            lungs = np.asarray(picture.convert("L")) > 127
    except (OSError, ValueError, SyntaxError) as exc:
        raise InputError(f"the outline {file} cannot be read ({exc}); mend it, or remove it") from exc
    rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
    if not len(rows):
        return (np.nan,) * 4
    height, width = lungs.shape
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
