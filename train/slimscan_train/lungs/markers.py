"""Letters and print in the corners of training pictures, drawn or blacked out.

Side markers, names and times stand in the corners of X-rays, and which ones goes with the ward. Drawn and removed at
random, they say nothing of the class.
"""

import functools
import string

import numpy as np
from numpy.typing import NDArray

_WORDS = ("R", "L", "R", "L", "RT", "LT", "D", "AP", "PA", "A-P", "SUPINE", "PORTABLE", "ERECT", "KV 60", "SITTING")
_FONT_PIXELS = (8, 12, 16, 24, 36, 48)
_REACH = 0.3
"""How far from an edge a marker may begin, as a share of the side."""


def mark(pixels: NDArray[np.uint8], share: float, rng: np.random.Generator) -> None:
    """Draw letters and print into some pictures, in place, or black corners out.

    Args:
        pixels: uint8 `[B, H, W, C]`.
        share: Of the pictures that are changed, 0 to 1.
        rng: Of all draws.
    """
    for row in np.flatnonzero(rng.random(len(pixels)) < share):
        for _ in range(1 + int(rng.random() < 0.4)):
            (_black_out if rng.random() < 0.3 else _write)(pixels[row], rng)


def _write(picture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    word = str(rng.choice(_WORDS)) if rng.random() < 0.7 else _print(rng)
    scale = picture.shape[0] / 224.0
    tile = _tile(word, max(6, round(scale * int(rng.choice(_FONT_PIXELS[: 3 if len(word) > 2 else None])))))
    tile = tile[: picture.shape[0], : picture.shape[1]]
    top, left = _corner(picture, tile.shape, rng)
    place = picture[top : top + tile.shape[0], left : left + tile.shape[1]]
    grey = float(rng.uniform(150, 255))
    ground = place if rng.random() < 0.75 else np.zeros_like(place)
    ink = tile[:, :, None]
    place[:] = np.rint(ink * grey + (1.0 - ink) * ground).astype(np.uint8)


def _black_out(picture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    height, width = (round(side * rng.uniform(0.06, 0.22)) for side in picture.shape[:2])
    top, left = _corner(picture, (height, width), rng)
    picture[top : top + height, left : left + width] = int(rng.integers(0, 30))


def _corner(picture: NDArray[np.uint8], size: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    """The upper left of a place near one of the four corners, inside the picture."""
    places = []
    for side, extent in zip(picture.shape[:2], size, strict=True):
        room = max(0, side - extent)
        inset = int(rng.uniform(0.0, _REACH) ** 2 / _REACH * side)
        places.append(min(room, inset) if rng.random() < 0.5 else max(0, room - inset))
    return places[0], places[1]


def _print(rng: np.random.Generator) -> str:
    letters = string.ascii_uppercase + string.digits + "   .:-/"
    return "".join(rng.choice(list(letters), int(rng.integers(4, 14))))


@functools.lru_cache(maxsize=256)
def _tile(word: str, pixels: int) -> NDArray[np.float32]:
    """A word as ink, 0 to 1, float32 `[h, w]`."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(pixels)
    left, top, right, bottom = (int(edge) for edge in font.getbbox(word))
    image = Image.new("L", (max(1, right - left + 2), max(1, bottom - top + 2)))
    ImageDraw.Draw(image).text((1 - left, 1 - top), word, fill=255, font=font)
    return np.asarray(image, np.float32) / 255.0
