"""Pictures that are no chest X-rays: photographs that packages ship, and everything else drawn from random numbers.

They show how much of what else may land in an inbox a guard lets through. Half of the families come close to an
X-ray on purpose: bones and slices on black, soft gradients, mottle.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

Half = Literal["tuning", "reporting"]
Draw: TypeAlias = Callable[[np.random.Generator], Image.Image]
Plane: TypeAlias = NDArray[np.floating]

SMALLEST_SIDE, LARGEST_SIDE = 128, 512
PHOTOGRAPHS: dict[Half, tuple[str, ...]] = {"tuning": ("china.jpg",), "reporting": ("flower.jpg", "grace_hopper.jpg")}
"""Shipped by scikit-learn and matplotlib; no photograph is in both halves."""
_WORDS = ("patient", "ward", "name", "date of", "birth", "file", "edit", "view", "a", "the", "2024", "17:05", "42 %")


def draw_pictures(half: Half, *, per_family: int) -> Iterator[tuple[str, Image.Image]]:
    """Draw every family; every second picture is turned grey.

    Args:
        half: `tuning` for choosing what a guard looks at, `reporting` for its figures; they share no picture.
        per_family: Pictures of each family.

    Yields:
        The family's name and a picture, grey or RGB, 128 to 512 pixels a side.
    """
    for family, draw in {"photograph": _photographs(half), **FAMILIES}.items():
        for index in range(per_family):
            rng = np.random.default_rng([half == "reporting", index, *family.encode()])
            picture = draw(rng)
            yield family, picture.convert("L") if index % 2 else picture


def _photographs(half: Half) -> Draw:
    """Part of a photograph, sometimes mirrored or as its negative."""
    originals = [_shipped(name) for name in PHOTOGRAPHS[half]]

    def draw(rng: np.random.Generator) -> Image.Image:
        photograph = originals[rng.integers(len(originals))]
        share = rng.uniform(0.35, 1.0)
        width, height = (max(SMALLEST_SIDE, round(side * share)) for side in photograph.size)
        left = int(rng.integers(photograph.width - width + 1))
        top = int(rng.integers(photograph.height - height + 1))
        part = photograph.crop((left, top, left + width, top + height)).resize(_size(rng))
        part = ImageOps.mirror(part) if rng.random() < 0.5 else part
        return ImageOps.invert(part) if rng.random() < 0.25 else part

    return draw


def _shipped(name: str) -> Image.Image:
    if name in ("china.jpg", "flower.jpg"):
        from sklearn.datasets import load_sample_image

        return Image.fromarray(load_sample_image(name))
    from matplotlib.cbook import get_sample_data

    path: Any = get_sample_data(name, asfileobj=False)
    return Image.open(path).convert("RGB")


def _size(rng: np.random.Generator) -> tuple[int, int]:
    width, height = rng.integers(SMALLEST_SIDE, LARGEST_SIDE, 2, endpoint=True)
    return int(width), int(height)


def _colour(rng: np.random.Generator, low: int = 0, high: int = 255) -> tuple[int, int, int]:
    red, green, blue = rng.integers(low, high, 3, endpoint=True)
    return int(red), int(green), int(blue)


def _box(rng: np.random.Generator, size: tuple[int, int], least: int = 8) -> tuple[int, int, int, int]:
    left, top = (int(rng.integers(0, side - least)) for side in size)
    return left, top, int(rng.integers(left + least, size[0] + 1)), int(rng.integers(top + least, size[1] + 1))


def _write(
    rng: np.random.Generator, pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], ink: tuple[int, int, int]
) -> None:
    """Fill a box with lines of words."""
    height = int(rng.integers(9, 22))
    font = ImageFont.load_default(height)
    for top in range(box[1] + 2, box[3] - height, round(height * rng.uniform(1.2, 1.8))):
        words = " ".join(rng.choice(_WORDS, rng.integers(2, 14)))
        while words and pen.textlength(words, font) > box[2] - box[0]:
            words = words[:-1]
        pen.text((box[0] + 3, top), words, fill=ink, font=font)


def _page(rng: np.random.Generator) -> Image.Image:
    """A page of text in columns, dark on light or the reverse."""
    size = _size(rng)
    paper, ink = _colour(rng, 225), _colour(rng, 0, 60)
    if rng.random() < 0.3:
        paper, ink = ink, paper
    page = Image.new("RGB", size, paper)
    columns = int(rng.integers(1, 3))
    for column in range(columns):
        step = size[0] // columns
        _write(rng, ImageDraw.Draw(page), (column * step, 0, (column + 1) * step - 6, size[1]), ink)
    return page


def _screen(rng: np.random.Generator) -> Image.Image:
    """A desktop with windows: title bars, buttons and text."""
    size = _size(rng)
    screen = Image.new("RGB", size, _colour(rng))
    pen = ImageDraw.Draw(screen)
    for _ in range(rng.integers(1, 6)):
        left, top, right, bottom = window = _box(rng, size, 40)
        light = rng.random() < 0.7
        pen.rectangle(window, fill=_colour(rng, 200) if light else _colour(rng, 0, 60))
        _write(rng, pen, (left, top + 14, right, bottom), _colour(rng, 0, 80) if light else _colour(rng, 180))
        pen.rectangle((left, top, right, top + 12), fill=_colour(rng))
    return screen


def _plot(rng: np.random.Generator) -> Image.Image:
    """A figure of curves, bars, points or a colour map."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = _size(rng)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    axes: Any = figure.add_subplot()
    values = rng.normal(size=(3, 40)).cumsum(axis=1)
    kind = rng.integers(4)
    if kind == 0:
        axes.plot(values.T)
    elif kind == 1:
        axes.bar(range(12), np.abs(values[0, :12]))
    elif kind == 2:
        axes.scatter(values[0], values[1], c=values[2])
    else:
        axes.imshow(rng.random((6, 6)), cmap="viridis")
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _drawing(rng: np.random.Generator) -> Image.Image:
    """Shapes and strokes, sharp or soft."""
    size = _size(rng)
    drawing = Image.new("RGB", size, _colour(rng))
    pen = ImageDraw.Draw(drawing)
    for _ in range(rng.integers(3, 25)):
        box = _box(rng, size)
        kind = rng.integers(4)
        if kind == 0:
            pen.ellipse(box, fill=_colour(rng))
        elif kind == 1:
            pen.rectangle(box, fill=_colour(rng), outline=_colour(rng))
        elif kind == 2:
            pen.line(box, fill=_colour(rng), width=int(rng.integers(1, 12)))
        else:
            pen.polygon([(int(rng.integers(size[0])), int(rng.integers(size[1]))) for _ in range(4)], fill=_colour(rng))
    return drawing.filter(ImageFilter.GaussianBlur(rng.uniform(0, 6))) if rng.random() < 0.3 else drawing


def _noise(rng: np.random.Generator) -> Image.Image:
    """Uniform, normal or salt-and-pepper noise, or soft mottle of a few cells."""
    width, height = _size(rng)
    kind = rng.integers(4)
    if kind == 0:
        return _grey(rng.uniform(0, 1, (height, width)))
    if kind == 1:
        return _grey(rng.normal(rng.uniform(0.2, 0.8), rng.uniform(0.02, 0.3), (height, width)))
    if kind == 2:
        return _grey((rng.random((height, width)) < rng.uniform(0.02, 0.98)).astype(np.float32))
    return _mottle(rng, (width, height), cells=int(rng.integers(2, 40)))


def _mottle(rng: np.random.Generator, size: tuple[int, int], *, cells: int) -> Image.Image:
    grains = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
    return Image.fromarray(grains).resize(size, Image.Resampling.BICUBIC)


def _gradient(rng: np.random.Generator) -> Image.Image:
    """A ramp in some direction, or one or several soft spots."""
    size = _size(rng)
    x, y = _plane(size)
    if rng.random() < 0.4:
        angle = rng.uniform(0, 2 * math.pi)
        return _grey(_stretched(x * math.cos(angle) + y * math.sin(angle)) ** rng.uniform(0.5, 2.0))
    spots = sum(
        rng.uniform(-1, 1)
        * np.exp(-((x - rng.uniform(-1, 1)) ** 2 + (y - rng.uniform(-1, 1)) ** 2) / rng.uniform(0.05, 2))
        for _ in range(rng.integers(1, 6))
    )
    return _grey(_stretched(np.asarray(spots)))


def _texture(rng: np.random.Generator) -> Image.Image:
    """Checkerboards, stripes, rings, bricks or waves."""
    size = _size(rng)
    x, y = _plane(size)
    across, down = rng.uniform(2, 40, 2)
    waves = (
        np.sign(np.sin(across * x) * np.sin(down * y)),
        np.sign(np.sin(across * x + down * y)),
        np.sin(across * np.hypot(x, y)),
        np.maximum(np.sin(across * x + np.sign(np.sin(down * y))) > 0.95, np.abs(np.sin(down * y)) < 0.08) * 1.0,
        np.sin(across * x) + np.sin(down * y + rng.uniform(0, 4) * np.sin(3 * x)),
    )
    return _grey(_stretched(waves[rng.integers(len(waves))]))


def _blank(rng: np.random.Generator) -> Image.Image:
    """One level, without or with a little grain or a border: an empty frame, a lens cap."""
    size = _size(rng)
    levels = np.full(size[::-1], rng.choice([0.0, 1.0, rng.uniform()])) + rng.normal(
        0, rng.choice([0, 0.004, 0.02]), size[::-1]
    )
    blank = _grey(levels)
    return ImageOps.expand(blank, int(rng.integers(5, 40)), int(rng.integers(256))) if rng.random() < 0.3 else blank


def _limb(rng: np.random.Generator) -> Image.Image:
    """An X-ray of a leg, an arm or a hand, schematic: one to five long bones in soft tissue."""
    size = _size(rng)
    x, y = _plane(size)
    bones = int(rng.integers(1, 6))
    tilt, bend = rng.uniform(-0.5, 0.5), rng.uniform(-0.2, 0.2)
    across = x - tilt * y - bend * y * y
    spread = rng.uniform(0.3, 0.8) if bones > 1 else 0.0
    picture = 0.35 * _soft(0.25 + spread - np.abs(across), 0.1)
    for at in np.linspace(-spread, spread, bones):
        half = rng.uniform(0.3, 0.6) * max(spread, 0.4) / bones
        joint = np.abs(np.sin(rng.uniform(1, 4) * y + rng.uniform(0, 3)))
        edge = half * (1.3 - 0.4 * joint) - np.abs(across - at)
        picture = picture + _soft(edge, 0.04) * (0.35 + 0.25 * _soft(0.06 - np.abs(edge - 0.04), 0.04))
        picture = picture * (1 - 0.5 * _soft(0.03 - joint * half, 0.02))
    return _exposed(rng, picture)


def _slice(rng: np.random.Generator) -> Image.Image:
    """A slice or a view of a head or trunk, schematic: a bright rim, organs inside, black outside."""
    size = _size(rng)
    x, y = _plane(size)
    wide, high = rng.uniform(0.55, 0.95, 2)
    from_rim = 1 - np.hypot(x / wide, y / high)
    picture = rng.uniform(0.2, 0.5) * _soft(from_rim, 0.03) + rng.uniform(0.2, 0.6) * _soft(
        0.08 - np.abs(from_rim - 0.08), 0.03
    )
    for _ in range(rng.integers(2, 9)):
        at, radii = rng.uniform(-0.5, 0.5, 2), rng.uniform(0.06, 0.4, 2)
        organ = 1 - np.hypot((x - at[0]) / radii[0], (y - at[1]) / radii[1])
        picture = picture + rng.uniform(-0.3, 0.3) * _soft(organ, 0.2) * (from_rim > 0.12)
    return _exposed(rng, picture)


def _plane(size: tuple[int, int]) -> tuple[Plane, Plane]:
    """Coordinates from -1 to 1, across and down."""
    return np.linspace(-1, 1, size[0])[np.newaxis, :], np.linspace(-1, 1, size[1])[:, np.newaxis]


def _soft(distance: Plane, softness: float) -> Plane:
    """0 outside, 1 inside, a ramp between."""
    share: Plane = np.clip(distance / softness, 0, 1)
    return share


def _stretched(plane: Plane) -> Plane:
    share: Plane = (plane - plane.min()) / max(float(np.ptp(plane)), 1e-6)
    return share


def _grey(plane: Plane) -> Image.Image:
    """Levels from 0 to 1 as a picture; a ramp of one row or column is broadcast by what it is drawn with."""
    return Image.fromarray(np.rint(255 * np.clip(plane, 0, 1)).astype(np.uint8))


def _exposed(rng: np.random.Generator, attenuation: Plane) -> Image.Image:
    grain = rng.normal(0, rng.uniform(0.005, 0.03), attenuation.shape)
    return _grey(_stretched(np.clip(attenuation, 0, None)) ** rng.uniform(0.6, 1.4) + grain)


FAMILIES: dict[str, Draw] = {
    "page": _page,
    "screen": _screen,
    "plot": _plot,
    "drawing": _drawing,
    "noise": _noise,
    "gradient": _gradient,
    "texture": _texture,
    "blank": _blank,
    "limb": _limb,
    "slice": _slice,
}
"""What is drawn; photographs come beside these."""
