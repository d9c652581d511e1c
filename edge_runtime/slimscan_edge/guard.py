"""The guard: is this picture like the X-rays that the model was trained on at all?

A network answers for whatever it is shown. Before its answer counts, a picture has to keep to limits that were
fitted on training X-rays and travel in the bundle: simple figures of its pixels, and one distance. The distance is
that of a coarse view of the picture (its shades, where it is rough, and the model's own evidence for it) from the
training X-rays, as a normal distribution with a few principal components and one variance for all the rest sees it
(probabilistic PCA: Tipping and Bishop, J. R. Statist. Soc. B 61 (1999) 611-622).

Two rules need no fitting, because every X-ray keeps to them: no colours, and no strip of a picture.
"""

import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.bundle import GUARD, Bundle
from slimscan_edge.colour import IN_COLOUR
from slimscan_edge.errors import BundleError, InputError
from slimscan_edge.records import from_mapping, read_json

MAX_ASPECT = 4.0
"""Longer over shorter side; the reference data's narrowest X-ray has 3.2."""

GRID, CELL = 8, 8
"""Cells on each side of the two grids of the coarse view, and pixels on each side of a cell."""
_GRIDS = 2 * GRID**2
_ALL_LEVELS = np.arange(256)
_SIDE = GRID * CELL
_MEANS = np.kron(np.eye(GRID, dtype=np.float32), np.full(CELL, 1 / CELL, np.float32))
"""Of each cell along a side, float32 `[GRID, _SIDE]`."""

REASONS: Mapping[str, str] = {
    "colour": "is a picture in colour, not an X-ray",
    "strip": f"has one side more than {MAX_ASPECT:g} times as long as the other, as no chest X-ray has",
    "blank": "has hardly any shades of grey: it is blank, or a document or a drawing",
    "turned": "seems to lie upside down or on its side; turn it upright",
    "negative": "seems to be a negative; export it with the bones white",
    "flat": "is for the most part of one even shade, as documents, drawings and screenshots are",
    "smooth": "shows no fine detail, as if out of focus or much enlarged",
    "grainy": "is far grainier than an X-ray is, as noise, text and patterns are",
    "unlike": "does not look like a frontal chest X-ray",
    "dark": "is far darker than an X-ray is; check how it was exposed or exported",
    "bright": "is far brighter than an X-ray is; check how it was exposed or exported",
}
"""Each rule in the order in which it is tried, with the end of a sentence that begins with the picture's name."""
FITTED = tuple(REASONS)[2:]
"""The rules whose limits a guard carries."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRecord:
    """What `guard.json` holds.

    Attributes:
        limits: The largest measure that each fitted rule accepts.
        variances: Of the coarse view along each principal component, in squared spreads of a training X-ray.
        rest_variance: Along every other direction.
        scales: Of each row of the table: the real value of one step.
        table: Base64 of int8 rows: the mean view, one over its spread, and the components.
        fitted_on: The images that it was fitted on, in words.
        rejected: Share of held-out X-rays that it rejects, 0 to 1, by what they are.
    """

    limits: Mapping[str, float]
    variances: tuple[float, ...]
    rest_variance: float
    scales: tuple[float, ...]
    table: str
    fitted_on: str
    rejected: Mapping[str, float]

    def __post_init__(self) -> None:
        numbers = (*self.limits.values(), *self.variances, self.rest_variance, *self.scales)
        if set(self.limits) != set(FITTED):
            raise ValueError(f"limits are {', '.join(self.limits)}, expected {', '.join(FITTED)}")
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError("a limit, variance or scale is not a finite number")
        if min(*self.variances, self.rest_variance) <= 0:
            raise ValueError("a variance is not above 0")
        if len(self.scales) != len(self.variances) + 2:
            raise ValueError(f"{len(self.scales)} scales do not fit {len(self.variances)} components")


class Guard:
    """A record ready to judge pictures."""

    def __init__(self, record: GuardRecord) -> None:
        """Unpack the table.

        Raises:
            ValueError: It is no base64, its length does not fit the components, or its numbers overflow.
        """
        self.record = record
        rows = np.frombuffer(binascii.a2b_base64(record.table), np.int8).reshape(len(record.scales), -1)
        with np.errstate(all="ignore"):  # what overflows is refused below
            self._unpack(rows)
        if not all(np.isfinite(numbers).all() for numbers in self._numbers()):
            raise ValueError("its numbers overflow")

    def _unpack(self, rows: NDArray[np.int8]) -> None:
        record = self.record
        table: Floats = rows * np.array(record.scales, np.float32)[:, np.newaxis]
        if table.shape[1] <= _GRIDS:
            raise ValueError(f"a view of {table.shape[1]} numbers is too short")
        self.view_size = table.shape[1]
        """Numbers in a coarse view."""
        mean, inverse_spread = table[:2]
        self._components = np.ascontiguousarray(table[2:].T)
        self._places, signs = _changes(self.view_size)
        # z = (signs * view[places] - mean) / spread = scales * view[places] - offsets, all [6, F]
        self._scales, self._offsets = signs * inverse_spread, np.tile(mean * inverse_spread, (len(signs), 1))
        for changed in (self._scales[1:], self._offsets[1:]):
            changed[:, _GRIDS:] = 0  # a changed picture's evidence is not known: it is taken for the mean
        # c^2 / variance + (|z|^2 - c^2) / rest = |z|^2 / rest + c^2 (1 / variance - 1 / rest)
        self._rests = np.full(self.view_size, 1 / np.float64(record.rest_variance), np.float32)
        self._gains = (1 / np.array(record.variances) - 1 / np.float64(record.rest_variance)).astype(np.float32)

    def _numbers(self) -> tuple[Floats, ...]:
        return self._scales, self._offsets, self._components, self._rests, self._gains

    def reject(self, picture: Image.Image, pixels: NDArray[np.uint8], evidence: Floats) -> str:
        """Why a picture is rejected: the end of a sentence that begins with its name; empty if it is not.

        Args:
            picture: As it was decoded.
            pixels: uint8 `[H, W, C]`, the same fitted to the model's input.
            evidence: The model's evidence map for them, float32 `[h, w, K]`.
        """
        if picture.info.get(IN_COLOUR) is True:  # and not a text of that name in the file
            return REASONS["colour"]
        if max(picture.size) > MAX_ASPECT * min(picture.size):
            return REASONS["strip"]
        return self.reject_pixels(pixels, evidence)

    def reject_pixels(self, pixels: NDArray[np.uint8], evidence: Floats) -> str:
        """As `reject`, by all rules but those on the picture as it was decoded."""
        measures = self.measure(pixels, evidence)
        # Not `>`, which is false of a measure that overflowed: what cannot be told is rejected.
        return next((REASONS[rule] for rule in FITTED if not measures[rule] <= self.record.limits[rule]), "")

    def measure(self, pixels: NDArray[np.uint8], evidence: Floats) -> dict[str, float]:
        """Each fitted rule's measure, which grows with what speaks against the picture.

        Args:
            pixels: uint8 `[H, W, C]`.
            evidence: float32 `[h, w, K]`.
        """
        grey = _grey(pixels)
        return {**_levels(grey), **self._distances(_view_of_grey(grey, evidence))}

    def _distances(self, view: Floats) -> dict[str, float]:
        """`unlike`: the distance; `turned` and `negative`: evidence apart, it over that of the picture changed so.

        Of these two the one that is farther is 0, and both are where the changed picture would be too far as well.
        """
        distances = self._distance(view)
        if not np.isfinite(distances).all():
            return {"unlike": math.nan, "turned": 0.0, "negative": 0.0}
        distance, as_is, *turned, negative = distances.tolist()
        otherwise = {"turned": min(turned), "negative": negative}
        nearest = min(self.record.limits["unlike"], *otherwise.values())
        measures = {rule: as_is / max(far, 1e-6) if far <= nearest else 0.0 for rule, far in otherwise.items()}
        return {"unlike": distance, **measures}

    def _distance(self, view: Floats) -> Floats:
        """Squared distances of a coarse view `[F]` from the training X-rays, in spreads.

        Returns:
            `[6]`: of the view; and, evidence apart, of the view as it is, on its other sides, and as a negative.
        """
        z = view[self._places]
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is rejected
            z *= self._scales
            z -= self._offsets
            distances: Floats = np.square(z) @ self._rests + np.square(z @ self._components) @ self._gains
        return distances


def guard_of(bundle: Bundle) -> Guard | None:
    """The guard that a bundle carries; None if it carries none.

    Raises:
        BundleError: It does not hold what it should.
    """
    if GUARD not in bundle.members:
        return None
    shape = next(spec.shape for spec in bundle.manifest.outputs if len(spec.shape) == 4)
    try:
        guard = Guard(from_mapping(GuardRecord, read_json(bundle.members[GUARD]), where=GUARD))
        if guard.view_size != _GRIDS + shape[1] * shape[2]:
            raise ValueError(f"a view of {guard.view_size} numbers does not fit the evidence map {list(shape)}")
    except (InputError, ValueError) as exc:
        raise BundleError(f"{bundle.manifest.bundle_id}: {GUARD} does not hold what it should ({exc})") from exc
    return guard


def coarse_view(pixels: NDArray[np.uint8], evidence: Floats) -> Floats:
    """What the distance is measured of, float32 `[F]`: two grids of the picture and the decision's evidence map.

    Shades are means of cells, less their own mean, in units of their own spread: how bright a picture is says nothing
    of what it shows. Roughness is the logarithm of the mean step between neighbours in a cell.

    Args:
        pixels: uint8 `[H, W, C]`.
        evidence: float32 `[h, w, K]`.
    """
    return _view_of_grey(_grey(pixels), evidence)


def _view_of_grey(grey: NDArray[np.uint8], evidence: Floats) -> Floats:
    picture = Image.frombuffer("L", grey.shape[::-1], np.ascontiguousarray(grey), "raw", "L", 0, 1)
    greys = np.array(picture.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=1.0), np.float32)
    down, across = np.abs(greys[1:] - greys[:-1]), np.abs(greys[:, 1:] - greys[:, :-1])
    shades = _MEANS @ greys @ _MEANS.T
    steps = _MEANS[:, :-1] @ down @ _MEANS.T + _MEANS @ across @ _MEANS.T[:-1]
    shades -= shades.sum() / GRID**2
    shades /= math.sqrt(np.square(shades).sum() / GRID**2) + 4  # a blank picture's grain is no pattern
    return np.concatenate([shades.ravel(), np.log1p(steps).ravel(), evidence[:, :, 0].ravel()], dtype=np.float32)


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma `[H, W]` of pixels `[H, W, C]`."""
    return pixels[:, :, 0] if pixels.shape[2] == 1 else np.asarray(Image.fromarray(pixels).convert("L"))


def _levels(grey: NDArray[np.uint8]) -> dict[str, float]:
    """The measures of the rules that go by grey levels `[H, W]` alone; a part of the pixels tells them well enough."""
    part = grey[::4, ::4].ravel()
    counts = np.bincount(part, minlength=256)
    brightness = int(counts @ _ALL_LEVELS) / part.size
    differences = np.subtract(grey[::8, 1::2], grey[::8, :-1:2], dtype=np.int16)
    steps = int(np.abs(differences).sum()) / differences.size
    return {
        "blank": -float(np.count_nonzero(counts)),
        "flat": int(counts.max()) / part.size,
        "dark": -brightness,
        "bright": brightness,
        "smooth": -steps,
        "grainy": steps,
    }


def _changes(size: int) -> tuple[NDArray[np.intp], Floats]:
    """How a view `[size]` is taken apart: as it is, and its grids upright, on their other sides, and as a negative.

    Returns:
        For each of these where each number comes from, `[6, size]`, and with which sign, `[6, size]`.
    """
    places = np.tile(np.arange(size), (6, 1))
    grids = np.arange(_GRIDS).reshape(2, GRID, GRID)
    for turns in range(4):
        places[1 + turns, :_GRIDS] = np.rot90(grids, turns, axes=(1, 2)).ravel()
    signs = np.ones((6, size), np.float32)
    signs[5, : GRID**2] = -1
    return places, signs
