"""Whether a picture shows colours, found out while it is decoded: a grey picture says nothing of it any more."""

import numpy as np
from PIL import Image

IN_COLOUR = "in_colour"
"""Key in the `info` of a picture that was made grey: present if it showed colours before."""
MOST_GREY_SPREAD = 9.5
"""In levels of 255. X-rays stored in RGB have 0, as sepia or on a bluish light box up to 8.5, with a coloured letter on
them 5; the dullest of 40 parts of a photograph has 10.5."""

_CELLS = 32


def shows_colours(picture: Image.Image) -> bool:
    """Whether the chroma of a loaded picture differs from place to place, as no X-ray's does, tinted or not."""
    if len(picture.getbands()) < 3 and picture.mode != "P":
        return False
    coloured = picture if picture.mode in ("RGB", "YCbCr") else picture.convert("RGB")
    cells = coloured.resize((_CELLS, _CELLS), Image.Resampling.BOX, reducing_gap=1.0).convert("YCbCr")
    chroma = np.asarray(cells, np.float32)[:, :, 1:]
    return bool(np.hypot(*chroma.std(axis=(0, 1))) > MOST_GREY_SPREAD)
