"""Named image shifts: what another hospital's machine or a careless export does to a picture.

Each is applied to the decoded picture before it is fitted to the model's input, at one fixed moderate
severity, so that figures under a shift can be compared between models and versions.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter, ImageOps


def _tone(curve: Callable[[float], float]) -> Callable[[Image.Image], Image.Image]:
    """A shift by a curve on grey levels 0 to 1."""
    table = [round(255 * min(1.0, max(0.0, curve(level / 255)))) for level in range(256)]
    return lambda image: image.point(table * len(image.getbands()))


def _jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    def shift(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return shift


def _blur(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.filter(ImageFilter.GaussianBlur(share * image.width))


def _noise(sigma: float) -> Callable[[Image.Image], Image.Image]:
    """Gaussian noise on the grain of a 224-pixel picture, so that resizing does not average it away."""

    def shift(image: Image.Image) -> Image.Image:
        grain = np.random.default_rng(0).normal(0.0, sigma * 255.0, (224, 224)).astype(np.float32)
        enlarged = np.asarray(Image.fromarray(grain).resize(image.size, Image.Resampling.BILINEAR))
        pixels = np.asarray(image, np.float32)
        noisy = pixels + (enlarged if pixels.ndim == 2 else enlarged[:, :, None])
        return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))

    return shift


def _rotate(degrees: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.rotate(degrees, Image.Resampling.BILINEAR)


def _crop(width: float, height: float) -> Callable[[Image.Image], Image.Image]:
    """The central part of the picture, as shares of its sides."""
    return lambda image: ImageOps.crop(
        image, (round(image.width * (1 - width) / 2), round(image.height * (1 - height) / 2))
    )


def _widen(share: float) -> Callable[[Image.Image], Image.Image]:
    """The picture with a black border, so that it fills `share` of each side."""
    return lambda image: ImageOps.expand(
        image, (round(image.width * (1 / share - 1) / 2), round(image.height * (1 / share - 1) / 2))
    )


SHIFTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "darker": _tone(lambda level: level - 0.15),
    "brighter": _tone(lambda level: level + 0.15),
    "gamma-0.7": _tone(lambda level: level**0.7),
    "gamma-1.4": _tone(lambda level: level**1.4),
    "contrast-0.7": _tone(lambda level: 0.5 + 0.7 * (level - 0.5)),
    "contrast-1.4": _tone(lambda level: 0.5 + 1.4 * (level - 0.5)),
    "jpeg-70": _jpeg(70),
    "blur": _blur(0.005),
    "noise": _noise(0.04),
    "rotate-left": _rotate(7.0),
    "rotate-right": _rotate(-7.0),
    "crop-0.85": _crop(0.85, 0.85),
    "crop-width-0.83": _crop(0.83, 1.0),
    "crop-height-0.83": _crop(1.0, 0.83),
    "widen-0.85": _widen(0.85),
}
"""Shift name to a function on a decoded grey or RGB picture."""
