"""The usual way from a file to a model's input: Pillow decodes in full, converts and resizes; NumPy normalises.

The steps are those that the models were trained with, done as a script does them: in full size and in float.
"""

from typing import Any

import numpy as np
from PIL import Image
from protocol import Step

PERCENTILES = (1, 99)


def real_pixels(path: str, job: dict[str, Any], step: Step) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Read an image.

    Args:
        path: Of the image.
        job: Its `height`, `width`, `channels`, `resize_filter` and `intensity` count.
        step: Called after decoding and after preparing.

    Returns:
        float32 `[height, width, channels]`, 0 to 255.
    """
    image = Image.open(path).convert("L" if job["channels"] == 1 else "RGB")
    step("decode")
    resized = image.resize((job["width"], job["height"]), Image.Resampling[job["resize_filter"].upper()])
    pixels = np.asarray(resized, np.float32).reshape(job["height"], job["width"], job["channels"])
    if job["intensity"] == "percentile":
        low, high = np.percentile(pixels, PERCENTILES)
        if high > low:
            pixels = np.clip((pixels - low) / (high - low) * 255.0, 0.0, 255.0).astype(np.float32)
    step("prepare")
    return pixels
