"""Augmentation on whole batches, inside the graph, from stateless seeds.

One bilinear resampling (crop, aspect, rotation, flip), a table of 256 grey levels an image (percentiles, gamma,
contrast, exposure), and texture (blur or sharpening, noise, an erased box). What touches every pixel is two functions
that XLA compiles, each into one pass or two; what is drawn for an image is a few numbers, and stays outside. The same
seed gives the same batch.

What is cropped here has to look like a picture that was cropped before the device saw it. So the pixels that come in
are larger than the network's input, for a crop would else be blurred, and their percentiles are taken afterwards, for
they are the crop's own.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from slimscan_edge.preprocess import PERCENTILES, PreprocessSpec
from slimscan_train.lungs.surroundings import blend_surroundings, draw_surroundings, own_transforms

REVISION = 2
"""Counted up whenever the same seed comes to give other pixels: what a teacher answered before is not of them."""

_SAMPLED_SIDE = 48
"""Rows and columns that percentiles are taken of: the 23rd of 2,304 pixels is the first percentile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """How strongly training images are varied. Zero turns a variation off.

    Attributes:
        swap: Share of the images whose lungs are put into the surroundings of another image of the batch, of either
            class; only where outlines of the lungs are known (`slimscan_train.lungs.surroundings`).
        marker: Share of the images that get a letter or print near their corners, or have one blacked out.
        margin: How many times the input's sides the pixels have that are cropped from: 7/6 leaves a crop of 0.73 of the
            area as sharp as the input; 1 where pictures have no more pixels to give.
        negative_cut: Largest share of the height that a negative picture loses above, and below, before anything else:
            where negative pictures came in taller frames than positive ones, what a frame shows beside the lungs then
            tells less of the class.
        crop_area_min: Smallest share of the picture's area that a crop keeps, 0 to 1; 1 crops nothing.
        crop_area_max: Largest; above 1 the picture shrinks inside a black border.
        crop_aspect: Largest factor by which a crop's aspect ratio differs, 1 or more.
        rotation_deg: Largest rotation either way, degrees.
        flip: Mirror left and right in half of the cases.
        gamma: Largest |ln gamma|: exponents from e^-gamma to e^gamma.
        contrast: Largest |ln| of the contrast factor about mid-grey.
        exposure: Largest shift of grey level, as a share of full scale.
        blur: Largest weight of a copy blurred by a 5x5 binomial filter; half of it, negative, sharpens.
        noise: Largest standard deviation of noise, as a share of full scale.
        erase: Largest side of an erased box, as a share of the input's side; in half of the cases.
        mixup: Alpha of the Beta distribution that pairs of images are mixed by (Zhang et al. 2018).
    """

    swap: float = 0.9
    marker: float = 0.0
    margin: float = 7 / 6
    negative_cut: float = 0.0
    crop_area_min: float = 0.2
    crop_area_max: float = 1.3
    crop_aspect: float = 1.33
    rotation_deg: float = 10.0
    flip: bool = True
    gamma: float = 0.3
    contrast: float = 0.2
    exposure: float = 0.05
    blur: float = 0.6
    noise: float = 0.03
    erase: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if not 0.01 <= self.crop_area_min <= 1 <= self.crop_area_max <= 4 or self.crop_aspect < 1:
            raise ValueError("expected crop_area_min in 0.01 to 1, crop_area_max in 1 to 4, crop_aspect 1 or more")
        if not 0 <= self.negative_cut < 0.5:
            raise ValueError(f"negative_cut is {self.negative_cut}, expected 0 or more and below 0.5")
        if not 1 <= self.margin <= 4:
            raise ValueError(f"margin is {self.margin}, expected 1 to 4")
        if not 0 <= self.rotation_deg <= 45:
            raise ValueError(f"rotation_deg is {self.rotation_deg}, expected 0 to 45")
        for name in ("swap", "marker", "gamma", "contrast", "exposure", "blur", "noise", "erase", "mixup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")


UNVARIED = AugmentConfig(
    swap=0.0,
    crop_area_min=1.0,
    crop_area_max=1.0,
    crop_aspect=1.0,
    rotation_deg=0.0,
    flip=False,
    gamma=0.0,
    contrast=0.0,
    exposure=0.0,
    blur=0.0,
    noise=0.0,
)


def larger(spec: PreprocessSpec, config: AugmentConfig) -> PreprocessSpec:
    """How pixels are read that `augment` is to make the input of: larger, and with the grey levels that they have."""
    height, width = round(config.margin * spec.height), round(config.margin * spec.width)
    return replace(spec, height=height, width=width, intensity="none")


def augment(
    pixels: Any, positive: Any, seed: Any, config: AugmentConfig, spec: PreprocessSpec, lungs: Any = None
) -> Any:
    """Vary a batch.

    Args:
        pixels: uint8 `[B, H', W', C]`, of any size, their intensity not normalised.
        positive: bool `[B]`, which of them are of the positive class.
        seed: int32 `[2]`, stateless.
        config: How strongly.
        spec: What the network sees: its size, and how intensity is normalised.
        lungs: float32 `[B, 6]`, from `slimscan_train.lungs.surroundings.measure_lungs`; None where nothing is known.

    Returns:
        float32 `[B, H, W, C]`, grey levels 0 to 255.
    """
    import tensorflow as tf

    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    pixels = tf.convert_to_tensor(pixels)
    batch, channels = tf.shape(pixels)[0], pixels.shape[3]
    rows: tuple[Any, Any] = (0, pixels.shape[1])
    if config.negative_cut:
        pixels, rows = _cut(pixels, positive, seeds[3], config.negative_cut)
    transforms = _transforms(pixels, rows, seeds[1], config, spec)
    if lungs is None or not config.swap:
        x = _compiled(_sample)(pixels, transforms, spec.height, spec.width)
    else:
        x = _swapped(pixels, lungs, transforms, seeds[3], config.swap, spec)
    x = _compiled(_texture)(
        x,
        _tone_table(x, seeds[0], config, spec),
        *_blur_and_noise((batch, spec.height, spec.width, channels), seeds[2], config),
    )
    if config.erase:
        x = _erase(x, seeds[3], config.erase)
    return x


def mixup_weights(batch: int, seed: Any, alpha: float) -> Any:
    """Weights of each image against its partner, float32 `[B]`, 0.5 to 1; ones when `alpha` is 0.

    A Beta(alpha, alpha) draw is the share of two Gamma(alpha) draws.
    """
    import tensorflow as tf

    if not alpha:
        return tf.ones([batch])
    draws = tf.random.stateless_gamma([2, batch], seed, alpha) + 1e-9
    share = draws[0] / (draws[0] + draws[1])
    return tf.maximum(share, 1.0 - share)


def _uniform(seed: Any, columns: int, batch: Any) -> Any:
    """Independent draws in -1 to 1, as `columns` tensors `[B]`."""
    import tensorflow as tf

    return tf.unstack(tf.random.stateless_uniform([columns, batch], seed, -1.0, 1.0))


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of tensors, compiled by XLA, which runs all of its arithmetic in one pass over the pixels.

    Within a function each value is best used once: XLA works it out anew wherever it is used. So what is sampled is
    not looked up and smoothed in the same function.
    """
    import tensorflow as tf

    compiled: Callable[..., Any] = tf.function(function, jit_compile=True, autograph=False)
    return compiled


def _cut(pixels: Any, positive: Any, seed: Any, share: float) -> tuple[Any, tuple[Any, Any]]:
    """Negative pictures with rows above and below made black; the first of the others, and how many, each `[B]`."""
    import tensorflow as tf

    high = pixels.shape[1]
    draws = tf.stack(_uniform(tf.random.experimental.stateless_split(seed, 1)[0], 2, tf.shape(pixels)[0]))
    above, below = tf.unstack(tf.where(positive, 0.0, tf.floor((draws + 1.0) / 2.0 * (share * high + 1.0))))
    row = tf.range(high, dtype=tf.float32)[None, :]
    left = (row >= above[:, None]) & (row < high - below[:, None])
    return tf.where(left[:, :, None, None], pixels, 0), (above, high - above - below)


def _transforms(pixels: Any, rows: tuple[Any, Any], seed: Any, config: AugmentConfig, spec: PreprocessSpec) -> Any:
    """Where in the input each output pixel lies, as `_sample` takes it, `[B, 6]`.

    `rows` are the first row of each picture there, and how many it has.
    """
    import tensorflow as tf

    (first, height), width = rows, pixels.shape[2]
    pitch_y, pitch_x = height / spec.height, width / spec.width
    area, aspect, along_x, along_y, angle, mirror = _uniform(seed, 6, tf.shape(pixels)[0])
    # A crop's area is uniform between its bounds, its aspect ratio log-uniform.
    share = config.crop_area_min + (config.crop_area_max - config.crop_area_min) * (area + 1.0) / 2.0
    stretch = tf.exp(0.5 * math.log(config.crop_aspect) * aspect)
    scale_x, scale_y = tf.sqrt(share) * stretch, tf.sqrt(share) / stretch
    centre_x = (width - 1) / 2.0 * (1.0 + (1.0 - scale_x) * along_x)
    centre_y = first + (height - 1) / 2.0 * (1.0 + (1.0 - scale_y) * along_y)
    radians = math.radians(config.rotation_deg) * angle
    cos, sin = tf.cos(radians), tf.sin(radians)
    flip = tf.where(mirror < 0.0, -1.0, 1.0) if config.flip else tf.ones_like(mirror)
    a, b = pitch_x * cos * scale_x * flip, -pitch_x * sin * scale_y
    d, e = pitch_y * sin * scale_x * flip, pitch_y * cos * scale_y
    offset_x = centre_x - a * (spec.width - 1) / 2.0 - b * (spec.height - 1) / 2.0
    offset_y = centre_y - d * (spec.width - 1) / 2.0 - e * (spec.height - 1) / 2.0
    return tf.stack([a, b, offset_x, d, e, offset_y], axis=1)


def _swapped(pixels: Any, lungs: Any, transforms: Any, seed: Any, share: float, spec: PreprocessSpec) -> Any:
    """As `_sample`, of images whose lungs lie in the surroundings of others of the batch."""
    import tensorflow as tf

    donors, drawn = draw_surroundings(lungs, seed, share, tuple(pixels.shape[1:3]))
    other = _compiled(_sample)(tf.gather(pixels, donors), transforms, spec.height, spec.width)
    own = _compiled(_sample)(pixels, own_transforms(transforms, drawn), spec.height, spec.width)
    return _compiled(blend_surroundings)(own, other, transforms, drawn)


def _sample(pixels: Any, transforms: Any, height: int, width: int) -> Any:
    """Bilinear samples of uint8 `[B, H', W', C]` at (a u + b v + c, d u + e v + f) of each (u, v); black outside."""
    import tensorflow as tf

    high, wide, channels = pixels.shape[1:]
    u, v = tf.range(width, dtype=tf.float32)[None, None, :], tf.range(height, dtype=tf.float32)[None, :, None]
    a, b, c, d, e, f = (value[:, None, None] for value in tf.unstack(transforms, axis=1))
    # In a border of one black pixel all that lies outside is at its outer edge.
    x = tf.clip_by_value(a * u + b * v + c + 1.0, 0.0, wide + 1.0)
    y = tf.clip_by_value(d * u + e * v + f + 1.0, 0.0, high + 1.0)
    left, top = tf.minimum(tf.floor(x), wide), tf.minimum(tf.floor(y), high)
    row = (wide + 2) * channels  # values in a row, and next to it
    first = tf.cast(top, tf.int32) * row + tf.cast(left, tf.int32) * channels
    first = first[..., None] + tf.range(channels)
    flat = tf.reshape(tf.pad(pixels, [[0, 0], [1, 1], [1, 1], [0, 0]]), [-1, (high + 2) * row])

    def at(further: int) -> Any:
        return tf.cast(tf.gather(flat, first + further, batch_dims=1), tf.float32)

    right, below = (x - left)[..., None], (y - top)[..., None]
    upper = (1.0 - right) * at(0) + right * at(channels)
    lower = (1.0 - right) * at(row) + right * at(row + channels)
    return (1.0 - below) * upper + below * lower


def _tone_table(x: Any, seed: Any, config: AugmentConfig, spec: PreprocessSpec) -> Any:
    """The grey level that each of 256 becomes, `[B, 256]`."""
    import tensorflow as tf

    gamma, contrast, exposure = _uniform(seed, 3, tf.shape(x)[0])
    level = tf.range(256, dtype=tf.float32)[None, :]
    if spec.intensity == "percentile":
        low, high = _percentiles(x)
        level = tf.where(high > low, 255.0 * (level - low) / tf.maximum(high - low, 1.0), level)
    level = tf.clip_by_value(level / 255.0, 0.0, 1.0)
    curve = level ** tf.exp(config.gamma * gamma)[:, None]
    curve = (curve - 0.5) * tf.exp(config.contrast * contrast)[:, None] + 0.5 + config.exposure * exposure[:, None]
    return tf.clip_by_value(curve, 0.0, 1.0) * 255.0


def _percentiles(x: Any) -> tuple[Any, Any]:
    """The grey levels of an image at `PERCENTILES`, each `[B, 1]`, from a grid of its pixels."""
    import tensorflow as tf

    step_y, step_x = (max(1, side // _SAMPLED_SIDE) for side in x.shape[1:3])
    sampled = tf.round(tf.reshape(x[:, ::step_y, ::step_x], [tf.shape(x)[0], -1]))
    low, high = (round(share / 100.0 * (sampled.shape[1] - 1)) for share in PERCENTILES)
    lowest = -tf.math.top_k(-sampled, low + 1).values
    highest = tf.math.top_k(sampled, sampled.shape[1] - high).values
    return lowest[:, -1:], highest[:, -1:]


def _blur_and_noise(shape: tuple[Any, int, int, int], seed: Any, config: AugmentConfig) -> tuple[Any, Any, Any]:
    """The weight of a blurred copy, `[B]`, the reach of the noise, `[B]`, and int8 draws of a shape; None if off."""
    import tensorflow as tf

    draws, grain = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    blur, noise = _uniform(draws, 2, shape[0])
    weight = config.blur * tf.where(blur > 0, blur, 0.5 * blur) if config.blur else None
    if not config.noise:
        return weight, None, None
    # Uniform over one standard deviation times the root of 3 either way, four bytes of each random number.
    count = tf.reduce_prod(shape)
    words = tf.random.stateless_uniform([(count + 3) // 4], grain, None, None, tf.int32)
    levels = tf.reshape(tf.reshape(tf.bitcast(words, tf.int8), [-1])[:count], shape)
    return weight, math.sqrt(3.0) * config.noise * 255.0 * tf.maximum(noise, 0.0), levels


def _texture(x: Any, table: Any, weight: Any, reach: Any, levels: Any) -> Any:
    """Grey levels by the table, then blurred or sharpened, then noise added; 0 to 255."""
    import tensorflow as tf

    x = tf.gather(table, tf.cast(x + 0.5, tf.int32), batch_dims=1)
    if weight is not None:
        x = x + weight[:, None, None, None] * (_smooth(_smooth(x)) - x)
    if levels is not None:
        x = x + (reach / 127.5)[:, None, None, None] * (tf.cast(levels, tf.float32) + 0.5)
    return tf.clip_by_value(x, 0.0, 255.0)


def _smooth(x: Any) -> Any:
    """The binomial filter 1 2 1 along both axes; by slices, several times faster than a convolution of one channel."""
    import tensorflow as tf

    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    x = (x[:, :-2] + 2.0 * x[:, 1:-1] + x[:, 2:]) / 4.0
    return (x[:, :, :-2] + 2.0 * x[:, :, 1:-1] + x[:, :, 2:]) / 4.0


def _erase(x: Any, seed: Any, side: float) -> Any:
    """Replace one box an image, in half of the cases, by mid-grey."""
    import tensorflow as tf

    height, width = x.shape[1], x.shape[2]
    tall, wide, at_y, at_x, chance = _uniform(seed, 5, tf.shape(x)[0])
    half_y, half_x = height * side / 4 * (tall + 1.0), width * side / 4 * (wide + 1.0)
    rows = tf.abs(tf.range(height, dtype=tf.float32)[None] - (height / 2 * (1.0 + at_y))[:, None]) < half_y[:, None]
    columns = tf.abs(tf.range(width, dtype=tf.float32)[None] - (width / 2 * (1.0 + at_x))[:, None]) < half_x[:, None]
    box = rows[:, :, None] & columns[:, None, :] & (chance > 0.0)[:, None, None]
    return tf.where(box[..., None], 127.5, x)
