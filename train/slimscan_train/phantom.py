"""Schematic chest X-rays drawn from random numbers, for demonstrations and tests where no patient's image may go.

They are drawings, not anatomy: a frontal view of a small chest with lungs, ribs, spine, heart and diaphragm placed by
eye in units of half the picture's height. A model trained on them knows nothing of any disease, and no accuracy
reached on them says anything about X-rays. What they do share with the reference data is what a pipeline meets: file
names, several images a child, varied sizes, exposures and positions, and classes that differ by a texture in the
lungs rather than by brightness. That texture is plain: a small network learns it wholly in minutes, whatever the seed
and the processor, so that how a demonstration ends does not hang on either.

Attenuation is added up structure by structure (more is whiter), then exposed to a mean and a contrast that are drawn
without regard to the class, as automatic exposure would.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.errors import InputError

Plane: TypeAlias = NDArray[np.floating]
Subtype = Literal["normal", "bacteria", "virus"]

CLASS_FOLDERS: dict[Subtype, str] = {"normal": "NORMAL", "bacteria": "PNEUMONIA", "virus": "PNEUMONIA"}
SMALLEST_SIDE, LARGEST_SIDE = 224, 500
MOST_IMAGES_PER_PATIENT = 4
_DRAWN_ROWS = 224  # taller pictures are drawn at this height and enlarged: what is drawn has no finer detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """What stays the same between two images of one child; lengths in half picture heights.

    Attributes:
        body_width: Half width of the trunk.
        cage_width: Half width of the rib cage where it is widest.
        apex: Height of the lung tips (negative is above the middle).
        dome: Height of the diaphragm's right dome.
        dome_step: How much lower the left dome stands.
        rib_spacing: From one rib to the next.
        rib_phase: Where the first rib starts, in rib spacings.
        rib_slope: How steeply ribs fall towards the side.
        heart_width: Half width of the heart's shadow.
        heart_shift: Its centre, to the right in the picture.
        spine_width: Half width of the spine.
        arm_angle: Slope of the arms (negative is raised).
        gastric_air: Radius of the air bubble in the stomach.
    """

    body_width: float
    cage_width: float
    apex: float
    dome: float
    dome_step: float
    rib_spacing: float
    rib_phase: float
    rib_slope: float
    heart_width: float
    heart_shift: float
    spine_width: float
    arm_angle: float
    gastric_air: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Anatomy":
        """One child, each measure uniform in its range."""
        return cls(**{field.name: float(rng.uniform(*_ANATOMY_RANGES[field.name])) for field in fields(cls)})


_ANATOMY_RANGES = {
    "body_width": (0.80, 0.94),
    "cage_width": (0.64, 0.76),
    "apex": (-0.84, -0.72),
    "dome": (0.40, 0.56),
    "dome_step": (0.02, 0.10),
    "rib_spacing": (0.135, 0.175),
    "rib_phase": (0.0, 1.0),
    "rib_slope": (0.45, 0.95),
    "heart_width": (0.24, 0.34),
    "heart_shift": (0.06, 0.14),
    "spine_width": (0.07, 0.10),
    "arm_angle": (-1.2, 0.9),
    "gastric_air": (0.0, 0.12),
}


def draw_phantom(
    rng: np.random.Generator,
    *,
    subtype: Subtype = "normal",
    anatomy: Anatomy | None = None,
    height: int = 320,
    width: int = 320,
) -> NDArray[np.uint8]:
    """Draw one schematic chest.

    Args:
        rng: Source of everything that is not given; the same state draws the same picture.
        subtype: `normal`; `bacteria` makes most of one lung dense, `virus` adds streaks and a net through both.
        anatomy: The child; drawn from `rng` when not given.
        height: Rows.
        width: Columns.

    Returns:
        Grey pixels, uint8 `[height, width]`.
    """
    child = Anatomy.draw(rng) if anatomy is None else anatomy
    rows = min(height, _DRAWN_ROWS)
    columns = round(width * rows / height)
    u, v = _place(rng, rows, columns)  # across and down, both [rows, columns]
    lung = _lung(child, u, v)
    attenuation = _trunk(child, u, v) - 0.44 * lung + _chest_organs(child, u, v) + _bones(child, u, v)
    attenuation += lung * _markings(rng, u, v, strength=rng.uniform(0.04, 0.12))
    if subtype == "bacteria":
        attenuation += lung * _consolidation(rng, child, u, v)
    elif subtype == "virus":
        attenuation += lung * _interstitial(rng, u, v)
    attenuation += 0.05 * _mottle(rng, u.shape, cells=5)
    return _expose(rng, _interpolate(attenuation, height, width))


def write_dataset(folder: Path, *, patients: int, seed: int) -> list[Path]:
    """Write a labelled data folder of phantoms, named like the reference data set.

    Every second child is normal; the others alternate between bacteria and virus. A child of a given seed is the same
    in a larger data set as in a smaller one.

    Args:
        folder: Receives `NORMAL/` and `PNEUMONIA/` with grey JPEG files of 224 to 500 pixels a side.
        patients: Number of children; each has one to four images.
        seed: What is drawn depends on it alone.

    Returns:
        The files written, in order.

    Raises:
        InputError: `folder` already holds images in one of the two, which would be mixed with phantoms.
    """
    for name in sorted(set(CLASS_FOLDERS.values())):
        (folder / name).mkdir(parents=True, exist_ok=True)
        if any((folder / name).iterdir()):
            raise InputError(f"{folder / name} is not empty; give a new folder for the phantoms")
    written = []
    for name, pixels in _cohort(patients, seed):
        path = folder / name
        Image.fromarray(pixels).save(path, quality=90)
        written.append(path)
    return written


def _cohort(patients: int, seed: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Every image of the data set: its path inside the folder, and its pixels."""
    order: tuple[Subtype, ...] = ("normal", "bacteria", "normal", "virus")
    seen = dict.fromkeys(get_args(Subtype), 0)  # children so far
    images = dict.fromkeys(get_args(Subtype), 0)
    for index in range(patients):
        subtype = order[index % len(order)]
        rng = np.random.default_rng([seed, index])
        anatomy = Anatomy.draw(rng)
        seen[subtype] += 1
        for image in range(1, 1 + _image_count(rng)):
            images[subtype] += 1
            height = int(rng.integers(SMALLEST_SIDE, LARGEST_SIDE, endpoint=True))
            width = int(np.clip(height * rng.uniform(0.95, 1.3), SMALLEST_SIDE, LARGEST_SIDE))
            name = _file_name(subtype, seen[subtype], image, images[subtype])
            pixels = draw_phantom(rng, subtype=subtype, anatomy=anatomy, height=height, width=width)
            yield f"{CLASS_FOLDERS[subtype]}/{name}", pixels


def _image_count(rng: np.random.Generator) -> int:
    return int(min(rng.geometric(0.8), MOST_IMAGES_PER_PATIENT))


def _file_name(subtype: Subtype, child: int, image: int, image_of_subtype: int) -> str:
    """The reference data's conventions: two series of normals, and one running number over a subtype's images."""
    if subtype == "normal":
        series = "IM" if child % 2 else "NORMAL2-IM"
        return f"{series}-{child:04d}-{image:04d}.jpeg"
    return f"person{child}_{subtype}_{image_of_subtype}.jpeg"


def _place(rng: np.random.Generator, height: int, width: int) -> tuple[Plane, Plane]:
    """Coordinates of each pixel on the child, who lies a little turned, shifted and nearer or farther."""
    turn, zoom = rng.normal(0.0, 0.05), rng.uniform(0.90, 1.12)
    shift_u, shift_v = rng.normal(0.0, 0.04), rng.normal(0.0, 0.04)
    x = (np.arange(width, dtype=np.float32)[np.newaxis, :] - (width - 1) / 2) / (height / 2 * zoom) - shift_u
    y = (np.arange(height, dtype=np.float32)[:, np.newaxis] - (height - 1) / 2) / (height / 2 * zoom) - shift_v
    cos, sin = math.cos(turn), math.sin(turn)
    return cos * x + sin * y, cos * y - sin * x


def _ramp(distance: Plane, softness: float) -> Plane:
    """0 outside (distance below 0), 1 inside, a smooth step `softness` wide between."""
    t: Plane = np.clip(distance / softness, 0, 1)
    return t * t * (3 - 2 * t)


def _ellipse(u: Plane, v: Plane, *, centre: tuple[float, float], radii: tuple[float, float]) -> Plane:
    """1 at the centre, 0 on the ellipse, negative outside."""
    from_centre: Plane = np.hypot((u - centre[0]) / radii[0], (v - centre[1]) / radii[1])
    return 1 - from_centre


def _cage_half_width(child: Anatomy, v: Plane) -> Plane:
    """The rib cage at each height: an arch from the apex down to the diaphragm, then straight."""
    rise = np.clip((child.dome - v) / (child.dome - child.apex), 0, 1)
    half_width: Plane = child.cage_width * np.sqrt(1 - rise * rise)
    return half_width


def _diaphragm(child: Anatomy, u: Plane) -> Plane:
    """Height of the diaphragm at each column: a dome on each side, the left one (right in the picture) lower."""
    across = (np.abs(u) - 0.5 * child.cage_width) / (0.5 * child.cage_width)
    return child.dome + child.dome_step * _ramp(u, 0.02) + 0.16 * across * across


def _lung(child: Anatomy, u: Plane, v: Plane) -> Plane:
    """1 in the air of both lungs, 0 elsewhere: inside the cage, beside the mediastinum, above the diaphragm."""
    side = np.abs(u)
    inside = np.minimum(_cage_half_width(child, v) - side, _diaphragm(child, u) - v)
    inside = np.minimum(inside, side - 0.12 - 0.05 * (v - child.apex))
    behind_heart = _ramp(_heart(child, u, v), 0.12)
    return _ramp(inside, 0.07) * (1 - 0.85 * behind_heart)


def _heart(child: Anatomy, u: Plane, v: Plane) -> Plane:
    tilted = u - 0.25 * (v - child.dome)
    return _ellipse(
        tilted, v, centre=(child.heart_shift, child.dome - 0.24), radii=(child.heart_width, 1.25 * child.heart_width)
    )


def _trunk(child: Anatomy, u: Plane, v: Plane) -> Plane:
    """Soft tissue: neck, shoulders and trunk as a flat cylinder, and two arms."""
    heights = [-1.4, -1.05, -0.92, -0.72, -0.35, 0.4, 1.4]
    half_widths = np.array([0.34, 0.28, 0.42, 1.05, 0.98, 0.96, 1.0]) * child.body_width
    half_width = np.interp(v, heights, half_widths).astype(np.float32)
    depth = np.sqrt(np.clip(1 - np.square(u / half_width), 0, 1))
    arms = _ramp(0.17 - _arm_distance(child, u, v), 0.12)
    tissue: Plane = np.maximum(0.82 * np.sqrt(depth), 0.50 * arms)
    return tissue


def _arm_distance(child: Anatomy, u: Plane, v: Plane) -> Plane:
    """Distance to the line of the upper arm, mirrored on both sides."""
    along = np.clip(np.abs(u) - 0.86 * child.body_width, 0, None)
    inward = np.clip(0.86 * child.body_width - np.abs(u), 0, None)
    across = (v + 0.66 - child.arm_angle * along) / math.hypot(1, child.arm_angle)
    distance: Plane = np.hypot(across, inward)
    return distance


def _chest_organs(child: Anatomy, u: Plane, v: Plane) -> Plane:
    """Heart, upper mediastinum, and the belly under the diaphragm with the stomach's air."""
    belly = _ramp(v - _diaphragm(child, u), 0.08) * _ramp(child.body_width - np.abs(u), 0.3)
    mediastinum = _ramp(0.17 - np.abs(u), 0.1) * _ramp(v - child.apex + 0.1, 0.2)
    total: Plane = 0.13 * _ramp(_heart(child, u, v), 0.25) + 0.12 * belly + 0.07 * mediastinum
    if child.gastric_air > 0.04:
        bubble = _ellipse(u, v, centre=(0.36, child.dome + 0.28), radii=(1.3 * child.gastric_air, child.gastric_air))
        total -= 0.18 * _ramp(bubble, 0.4)
    return total


def _bones(child: Anatomy, u: Plane, v: Plane) -> Plane:
    """Spine, ribs, collar bones and upper arms."""
    spine = _ramp(child.spine_width - np.abs(u), 0.04)
    vertebra = v / child.rib_spacing
    body: Plane = 0.5 - np.abs(vertebra - np.rint(vertebra))
    collar = np.abs(v - (child.apex + 0.07 - 0.22 * np.abs(u))) + 0.4 * np.clip(0.1 - np.abs(u), 0, None)
    collar_bone = _ramp(0.035 - collar, 0.02) * _ramp(0.62 - np.abs(u), 0.1)
    column = spine * (0.09 + 0.13 * body)
    humerus = _ramp(0.055 - _arm_distance(child, u, v), 0.025)
    return column + _ribs(child, u, v) + 0.10 * collar_bone + 0.22 * humerus


def _ribs(child: Anatomy, u: Plane, v: Plane) -> Plane:
    """Two families of arcs inside the cage: posterior ribs fall to the side, fainter anterior ones to the middle."""
    side = np.abs(u)
    cage = _cage_half_width(child, v) + 0.03
    edge: Plane = np.square(
        np.square(side / np.maximum(cage, 0.05))
    )  # towards 1 where a rib turns round and is seen end on
    posterior = v - child.rib_slope * np.square(side - 0.2)
    anterior = v + 0.75 * side
    arcs = 0.8 * _stripes(child, posterior) + 0.4 * _stripes(child, anterior) * _ramp(side - 0.22, 0.2)
    within = _ramp(cage - side, 0.03) * _ramp(child.dome + 0.35 - v, 0.2)
    return within * arcs * (0.13 + 0.14 * edge)


def _stripes(child: Anatomy, arc: Plane) -> Plane:
    turns = arc / child.rib_spacing + child.rib_phase
    from_rib: Plane = np.abs(turns - np.rint(turns))
    return _ramp(0.2 - from_rib, 0.1)


def _markings(rng: np.random.Generator, u: Plane, v: Plane, *, strength: float) -> Plane:
    """Streaks that radiate from the root of each lung and fade outwards, as vessels do; every chest has some."""
    side = np.abs(u) - 0.2
    down = v - 0.02
    reach = np.hypot(side, down)
    angle = np.arctan2(down, side) + 0.5 * reach + 7.0 * _ramp(u, 0.02)
    rays = rng.normal(size=(160, 8)).astype(np.float32)  # 11 to a radian, left lung after right; 6 to a half height
    streaks = _sample(rays, angle * 11.0 + 38, reach * 6.0)
    fading: Plane = np.clip(streaks, 0, None) * np.clip(1 - reach, 0, 1)
    return strength * fading


def _consolidation(rng: np.random.Generator, child: Anatomy, u: Plane, v: Plane) -> Plane:
    """One lung dense through most of its height, with an uneven border, as textbooks draw lobar pneumonia."""
    side = 1 if rng.random() < 0.5 else -1
    centre_u = side * child.cage_width * rng.uniform(0.52, 0.64)
    centre_v = child.apex + (child.dome - child.apex) * rng.uniform(0.45, 0.75)
    radii = rng.uniform(0.34, 0.44), rng.uniform(0.34, 0.44)
    patch = _ellipse(u, v, centre=(centre_u, centre_v), radii=radii)
    return rng.uniform(0.42, 0.54) * _ramp(patch + 0.2 * _mottle(rng, u.shape, cells=14), 0.5)


def _interstitial(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Denser streaks and a net of shadows through both lungs, as viral pneumonia is drawn in textbooks."""
    net = np.clip(1 - 1.8 * np.abs(_mottle(rng, u.shape, cells=16)), 0, 1)
    shadows: Plane = _markings(rng, u, v, strength=rng.uniform(0.28, 0.38)) + rng.uniform(0.25, 0.34) * net
    return shadows


def _sample(table: Plane, row: Plane, column: Plane) -> Plane:
    """Bilinear values of a small table at fractional positions inside it (clamped to its border)."""
    row = np.clip(row, 0, table.shape[0] - 1.001)
    column = np.clip(column, 0, table.shape[1] - 1.001)
    i, j = row.astype(np.intp), column.astype(np.intp)
    a, b = row - i.astype(row.dtype), column - j.astype(column.dtype)
    flat, first = table.ravel(), i * table.shape[1] + j
    upper = flat[first] * (1 - b) + flat[first + 1] * b
    lower = flat[first + table.shape[1]] * (1 - b) + flat[first + table.shape[1] + 1] * b
    value: Plane = upper * (1 - a) + lower * a
    return value


def _mottle(rng: np.random.Generator, shape: tuple[int, ...], *, cells: int) -> Plane:
    """Smooth unit noise: a `cells` by `cells` grid of normal numbers, interpolated over the picture."""
    grid = rng.normal(size=(cells, cells)).astype(np.float32)
    return _interpolate(grid, *shape)


def _interpolate(grid: Plane, height: int, width: int) -> Plane:
    """Stretch a grid to a picture bilinearly, corner to corner."""
    return _stretch_rows(_stretch_rows(grid, height).T, width).T


def _stretch_rows(grid: Plane, length: int) -> Plane:
    """Interpolate linearly between the rows of a grid; without BLAS, whose threads would wait longer than they work."""
    if len(grid) == length:
        return grid
    position = np.linspace(0, len(grid) - 1, length, dtype=np.float32)[:, np.newaxis]
    above = np.minimum(position.astype(np.intp), len(grid) - 2)[:, 0]
    part = position - above[:, np.newaxis].astype(np.float32)
    stretched: Plane = grid[above] * (1 - part) + grid[above + 1] * part
    return stretched


def _expose(rng: np.random.Generator, attenuation: Plane) -> NDArray[np.uint8]:
    """Pixels of a mean and a contrast drawn for this exposure alone, with its grain."""
    level, contrast, grain = rng.uniform(112, 148), rng.uniform(44, 62), rng.uniform(1.5, 4.0)
    exposed = np.clip(attenuation, 0, None) ** rng.uniform(0.85, 1.25)
    scaled = (exposed - exposed.mean()) * (contrast / exposed.std()) + level
    scaled += grain * rng.standard_normal(scaled.shape, dtype=np.float32)
    pixels: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return pixels
