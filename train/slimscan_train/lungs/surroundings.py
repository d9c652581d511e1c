"""The lungs of one chest in the surroundings of another, of either class alike.

Where the frame, a marker or the machine goes with the class, a network learns those. What lies outside the lungs says
nothing of the class any more once it is another patient's, drawn from both classes with equal chance. So training
swaps surroundings within each batch, and validation holds a fixed draw of swaps that no frame can help with.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.preprocess import PreprocessSpec, fit_to_input
from slimscan_train.dataset import LabelledImage
from slimscan_train.lungs.outlines import read_lung_boxes
from slimscan_train.split import Split

SWAPS = ("swap-1", "swap-2", "swap-3")
"""The fixed draws of other surroundings that validation images are scored in, named like image shifts."""

SWAPPED = {"val": "val_swap", "val_shift": "val_shift_swap"}
"""What a split in all of them together is called."""

MARGIN = 0.03
"""Kept around the box of the lungs, as a share of the frame: ribs and diaphragm belong to the lungs' own picture."""

_FEATHER = 8.0
"""Pixels over which validation's seam fades."""

_LEAST_SPREAD = 1.0


def measure_lungs(pixels: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a swap needs to know of each image.

    Args:
        pixels: uint8 `[N, H, W, C]`.
        boxes: float32 `[N, 4]` (`slimscan_train.lungs.outlines`), NaN where unknown.

    Returns:
        float32 `[N, 6]`: the box with its margin, inside the frame, and mean and standard deviation of grey in it.
    """
    grown = np.clip(boxes + np.array([-MARGIN, -MARGIN, MARGIN, MARGIN], np.float32), 0.0, 1.0)
    levels = np.full((len(boxes), 2), np.nan, np.float32)
    for row in np.flatnonzero(np.isfinite(grown).all(axis=1)):
        left, top, right, bottom = _in_pixels(grown[row], pixels.shape[1:3])
        inside = pixels[row, top:bottom, left:right]
        levels[row] = inside.mean(), max(inside.std(), _LEAST_SPREAD)
    return np.concatenate([grown, levels], axis=1)


def draw_surroundings(lungs: Any, seed: Any, share: float, size: tuple[int, int]) -> tuple[Any, Any]:
    """Draw whose surroundings each image of a batch gets, and how the lungs are fitted into them.

    Args:
        lungs: float32 `[B, 6]`, from `measure_lungs`.
        seed: int32 `[2]`, stateless.
        share: Of the images that are swapped, 0 to 1.
        size: Height and width of the pictures, pixels.

    Returns:
        Donors int32 `[B]`, an image itself where nothing is swapped; and float32 `[B, 12]`, as `blend_surroundings`
        takes it: scale and offset in x and in y from the donor's pixels to the image's own, centre and half sides of
        the box in the donor, exponent and feather of the seam, and gain and offset of grey levels.
    """
    import tensorflow as tf

    count = tf.shape(lungs)[0]
    shuffle, draws = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    donors = tf.argsort(tf.random.stateless_uniform([count], shuffle))
    # Four edges of either box, then whether to swap, whether to take the donor's tone over, and the seam's two.
    jitter = tf.random.stateless_uniform([12, count], draws, -1.0, 1.0)
    chosen, toned = jitter[8] < 2.0 * share - 1.0, jitter[9] < 0.0
    found = tf.gather(lungs, donors)
    swapped = chosen & tf.reduce_all(tf.math.is_finite(lungs) & tf.math.is_finite(found), axis=1)
    whole = tf.constant([[0.0, 0.0, 1.0, 1.0, 0.0, 1.0]])
    own, other = (tf.where(swapped[:, None], of, whole) for of in (lungs, found))

    height, width = size
    sides = tf.constant([width, height, width, height], tf.float32)
    edge = MARGIN * tf.cast(swapped, tf.float32)[:, None]  # edges move by up to the margin
    a = sides * tf.clip_by_value(own[:, :4] + edge * tf.transpose(jitter[0:4]), 0.0, 1.0) - 0.5
    b = sides * tf.clip_by_value(other[:, :4] + edge * tf.transpose(jitter[4:8]), 0.0, 1.0) - 0.5
    scale = (a[:, 2:] - a[:, :2]) / (b[:, 2:] - b[:, :2])
    offset = a[:, :2] - scale * b[:, :2]
    # An unswapped image is all inside: a box far larger than the frame, whose seam lies outside.
    half = tf.where(swapped[:, None], (b[:, 2:] - b[:, :2]) / 2.0, 1e6)
    exponent = 2.0 ** (3.5 + 1.5 * jitter[10])  # from a rounded box to a sharp one
    feather = 2.0 ** (2.25 + 2.0 * jitter[11])  # 1 to 19 pixels
    gain = tf.where(toned & swapped, other[:, 5] / own[:, 5], 1.0)
    shift = tf.where(toned & swapped, other[:, 4] - gain * own[:, 4], 0.0)
    parts = [scale, offset, (b[:, 2:] + b[:, :2]) / 2.0, half, tf.stack([exponent, feather, gain, shift], axis=1)]
    return tf.where(swapped, donors, tf.range(count)), tf.concat(parts, axis=1)


def own_transforms(transforms: Any, drawn: Any) -> Any:
    """Where in the image itself each output pixel lies, from where it lies in the donor; both float32 `[B, 6]`."""
    import tensorflow as tf

    scale_x, scale_y, offset_x, offset_y = tf.unstack(drawn[:, :4], axis=1)
    a, b, c, d, e, f = tf.unstack(transforms, axis=1)
    return tf.stack(
        [scale_x * a, scale_x * b, scale_x * c + offset_x, scale_y * d, scale_y * e, scale_y * f + offset_y], axis=1
    )


def blend_surroundings(own: Any, other: Any, transforms: Any, drawn: Any) -> Any:
    """The lungs inside their box in the donor, and the donor around it.

    Args:
        own: The image, sampled by `own_transforms`, float32 `[B, H, W, C]`.
        other: Its donor, sampled by `transforms`, of the same shape.
        transforms: Where in the donor each output pixel lies, `[B, 6]`.
        drawn: From `draw_surroundings`.

    Returns:
        float32 `[B, H, W, C]`, 0 to 255.
    """
    import tensorflow as tf

    height, width = own.shape[1:3]
    u, v = tf.range(width, dtype=tf.float32)[None, None, :], tf.range(height, dtype=tf.float32)[None, :, None]
    a, b, c, d, e, f = (value[:, None, None] for value in tf.unstack(transforms, axis=1))
    centre_x, centre_y, half_x, half_y, exponent, feather, gain, shift = (
        value[:, None, None] for value in tf.unstack(drawn[:, 4:], axis=1)
    )
    across = tf.abs((a * u + b * v + c - centre_x) / half_x) ** exponent
    down = tf.abs((d * u + e * v + f - centre_y) / half_y) ** exponent
    inside = (1.0 - (across + down) ** (1.0 / exponent)) * tf.minimum(half_x, half_y)  # about pixels to the seam
    share = tf.clip_by_value(inside / feather, 0.0, 1.0)[..., None]
    return tf.clip_by_value(share * (gain[..., None] * own + shift[..., None]) + (1.0 - share) * other, 0.0, 255.0)


def swapped_pixels(
    read: Callable[[Sequence[LabelledImage]], NDArray[np.uint8]],
    split: Split,
    outlines: Path,
    images: Sequence[LabelledImage],
    spec: PreprocessSpec,
    swap: str,
) -> NDArray[np.uint8]:
    """Held-out images in other surroundings, by a fixed draw: the donor is another patient of the same split.

    Half of the donors are of either class, and half of the images take the donor's tone over. An image without an
    outline stays as it is.

    Args:
        read: Pixels of images, uint8 `[N, H', W', C]`, their intensity not normalised.
        split: Who is in which split.
        outlines: Folder of outlines.
        images: Records of the split.
        spec: What the network sees.
        swap: Which draw, of `SWAPS`.

    Returns:
        uint8 `[N, H, W, C]`.
    """
    pools = {name: _Pool(read, split, outlines, name) for name in {image.split for image in images}}
    pixels = np.empty((len(images), spec.height, spec.width, spec.channels), np.uint8)
    for row, image in enumerate(images):
        swapped = pools[image.split].swap(image, SWAPS.index(swap))
        pixels[row] = fit_to_input(Image.fromarray(swapped[..., 0] if spec.channels == 1 else swapped), spec)
    return pixels


class _Pool:
    """The images of one split, and what a swap needs to know of them."""

    def __init__(
        self,
        read: Callable[[Sequence[LabelledImage]], NDArray[np.uint8]],
        split: Split,
        outlines: Path,
        name: str,
    ) -> None:
        images = split.select(name)
        self._row = {image.path: row for row, image in enumerate(images)}
        self._pixels = read(images)
        self._lungs = measure_lungs(self._pixels, _boxes(outlines, images))
        self._patients = np.array([image.patient for image in images])
        positive = np.array([split.is_positive(image) for image in images])
        known = np.isfinite(self._lungs).all(axis=1)
        self._donors = [np.flatnonzero(known & (positive == of_class)) for of_class in (False, True)]

    def swap(self, image: LabelledImage, draw: int) -> NDArray[np.uint8]:
        row = self._row[image.path]
        own: NDArray[np.uint8] = self._pixels[row]
        rng = np.random.default_rng([draw, int(image.sha256[:8], 16)])
        donors = self._donors[int(rng.random() < 0.5)]
        donors = donors[self._patients[donors] != image.patient]
        if not len(donors) or np.isnan(self._lungs[row]).any():
            return own
        donor = int(rng.choice(donors))
        return swap_picture(own, self._lungs[row], self._pixels[donor], self._lungs[donor], toned=rng.random() < 0.5)


@functools.lru_cache(maxsize=8)
def _boxes(outlines: Path, images: tuple[LabelledImage, ...]) -> NDArray[np.float32]:
    return read_lung_boxes(outlines, images)


def swap_picture(
    own: NDArray[np.uint8],
    own_lungs: NDArray[np.float32],
    other: NDArray[np.uint8],
    other_lungs: NDArray[np.float32],
    *,
    toned: bool,
) -> NDArray[np.uint8]:
    """The lungs of one picture in the surroundings of another.

    Args:
        own: The picture whose lungs are kept, uint8 `[H, W, C]`.
        own_lungs: Its row of `measure_lungs`.
        other: The picture around them, of the same shape.
        other_lungs: Its row.
        toned: Whether the lungs take over mean and standard deviation of the grey that they replace.

    Returns:
        uint8 `[H, W, C]`.
    """
    left, top, right, bottom = _in_pixels(other_lungs, other.shape[:2])
    height, width = own.shape[:2]
    extent = tuple(float(edge) for edge in own_lungs[:4] * np.array([width, height, width, height], np.float32))
    channels = [
        np.asarray(
            Image.fromarray(own[..., channel]).transform(
                (right - left, bottom - top), Image.Transform.EXTENT, extent, Image.Resampling.BILINEAR
            ),
            np.float32,
        )
        for channel in range(own.shape[2])
    ]
    lungs = np.stack(channels, axis=2)
    if toned:
        lungs = (lungs - own_lungs[4]) * (other_lungs[5] / own_lungs[5]) + other_lungs[4]
    down, across = (np.minimum(np.arange(side), np.arange(side)[::-1]) + 1.0 for side in lungs.shape[:2])
    share = np.clip(np.minimum(down[:, None], across[None, :]) / _FEATHER, 0.0, 1.0)[..., None]
    swapped = other.astype(np.float32)
    swapped[top:bottom, left:right] = share * lungs + (1.0 - share) * swapped[top:bottom, left:right]
    result: NDArray[np.uint8] = np.clip(np.rint(swapped), 0, 255).astype(np.uint8)
    return result


def _in_pixels(lungs: NDArray[np.float32], size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in whole pixels, at least two apart."""
    height, width = size[:2]
    left, top, right, bottom = (
        int(np.rint(edge * side)) for edge, side in zip(lungs[:4], (width, height, width, height), strict=True)
    )
    return left, top, max(right, left + 2), max(bottom, top + 2)
