"""JPEG files to measure on where no X-ray is at hand: drawn chests, of the sizes that X-rays come in."""

from pathlib import Path

import numpy as np
from PIL import Image

from slimscan_train.phantom import draw_phantom

# Width, height and JPEG quality. The outer two are the median sizes of the two classes of full-size paediatric X-rays
# in Kermany et al. (Mendeley Data, doi 10.17632/rscbjbr9sj), at the quality that gives a drawing as many bits a pixel
# as those files have (2.0 and 0.7): what decoding costs depends on both.
TYPICAL = ((1630, 1360, 95), (1400, 1000, 90), (1136, 768, 85))
SEED = 0


def write_typical_images(folder: Path) -> list[Path]:
    """Draw one grey JPEG for each of `TYPICAL`; the same ones every time.

    Args:
        folder: Existing folder to write into.

    Returns:
        The files.
    """
    rng = np.random.default_rng(SEED)
    paths = []
    for width, height, quality in TYPICAL:
        path = folder / f"drawn-{width}x{height}.jpeg"
        Image.fromarray(draw_phantom(rng, height=height, width=width)).save(path, quality=quality)
        paths.append(path)
    return paths
