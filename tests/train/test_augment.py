from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.ndimage import map_coordinates

from slimscan_edge.preprocess import PreprocessSpec, fit_to_input
from slimscan_train.augment import UNVARIED as OFF
from slimscan_train.augment import AugmentConfig, _compiled, _sample, augment, larger, mixup_weights
from slimscan_train.phantom import draw_phantom
from slimscan_train.shifts import SHIFTS

ONE_BY_ONE = {
    "negative_cut": 0.3,
    "crop_area_min": 0.3,
    "crop_aspect": 1.5,
    "rotation_deg": 15.0,
    "flip": True,
    "gamma": 0.5,
    "contrast": 0.5,
    "exposure": 0.2,
    "blur": 0.9,
    "noise": 0.1,
    "erase": 0.6,
}
STRONG = replace(OFF, **ONE_BY_ONE)
PIXELS = np.random.default_rng(0).integers(30, 220, (16, 24, 32, 1), dtype=np.uint8)


def vary(
    pixels: np.ndarray,
    config: AugmentConfig,
    seed: tuple[int, int] = (1, 2),
    spec: PreprocessSpec | None = None,
    positive: np.ndarray | None = None,
) -> np.ndarray:
    """Varied, of the negative class and as large as before if nothing else is asked for."""
    spec = spec or PreprocessSpec(height=pixels.shape[1], width=pixels.shape[2])
    positive = np.zeros(len(pixels), bool) if positive is None else positive
    return augment(pixels, positive, np.array(seed, np.int32), config, spec).numpy()


def test_the_same_seed_gives_the_same_batch() -> None:
    first = vary(PIXELS, STRONG, (5, 6))
    np.testing.assert_array_equal(first, vary(PIXELS, STRONG, (5, 6)))
    assert not np.allclose(first, vary(PIXELS, STRONG, (5, 7)))
    assert not np.allclose(first, vary(PIXELS, STRONG, (6, 6)))


def test_shape_type_and_range() -> None:
    varied = vary(PIXELS, STRONG)
    assert varied.shape == PIXELS.shape
    assert varied.dtype == np.float32
    assert varied.min() >= 0
    assert varied.max() <= 255


def test_images_of_a_batch_are_varied_each_for_itself() -> None:
    same = np.repeat(PIXELS[:1], 16, axis=0)
    varied = vary(same, replace(STRONG, flip=False))
    assert len({picture.tobytes() for picture in varied}) == 16


def test_with_all_turned_off_nothing_changes() -> None:
    np.testing.assert_allclose(vary(PIXELS, OFF), PIXELS, atol=0.01)


# --- what is cropped here looks as if it had been cropped before the device saw it ----------------------------------


@pytest.fixture(scope="module")
def chest() -> Image.Image:
    """A grainy one, a sixth larger than what a network of 96 pixels sees."""
    rng = np.random.default_rng(5)
    grain = rng.normal(0.0, 15.0, (112, 112))
    return Image.fromarray(np.clip(draw_phantom(rng, height=112, width=112) + grain, 0, 255).astype(np.uint8))


def test_an_unvaried_picture_is_what_the_device_sees(chest: Image.Image) -> None:
    spec = PreprocessSpec(height=96, width=80, intensity="percentile")
    on_device = fit_to_input(chest, spec)
    seen = vary(fit_to_input(chest, larger(spec, OFF))[None], OFF, spec=spec)
    assert seen.shape == (1, 96, 80, 1)
    assert np.abs(seen[0] - on_device).mean() < 3


def test_a_crop_is_what_the_device_sees_of_a_cropped_picture(
    chest: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slimscan_train.augment._uniform", lambda _, columns, batch: [tf.zeros([batch])] * columns)
    spec = PreprocessSpec(height=96, width=96, intensity="percentile")
    on_device = fit_to_input(SHIFTS["crop-0.85"](chest), spec).astype(float)
    halfway_to_the_whole = replace(OFF, crop_area_min=2 * 0.85**2 - 1)
    seen = vary(fit_to_input(chest, larger(spec, OFF))[None], halfway_to_the_whole, spec=spec)[0]
    from_the_input = vary(fit_to_input(chest, spec)[None], halfway_to_the_whole, spec=spec)[0]
    off, farther_off = (np.abs(picture - on_device).mean() for picture in (seen, from_the_input))
    sharp, less_sharp, on_device_so = (np.diff(picture, axis=1).std() for picture in (seen, from_the_input, on_device))
    assert off < 0.7 * farther_off
    assert sharp > 0.65 * on_device_so
    assert less_sharp < 0.6 * on_device_so


def test_the_percentiles_are_those_of_the_crop() -> None:
    framed = np.full((32, 60, 60, 1), 255, np.uint8)
    framed[:, 3:-3, 3:-3] = np.random.default_rng(0).integers(80, 120, (32, 54, 54, 1))
    spec = PreprocessSpec(height=48, width=48, intensity="percentile")
    seen = vary(framed, replace(OFF, crop_area_min=0.3), spec=spec)
    stretched = seen.std(axis=(1, 2, 3)) > 60  # the frame is outside; with it in, 80 to 120 is a seventh of the range
    assert 5 < stretched.sum() < 32
    flat = vary(np.full((2, 60, 60, 1), 90, np.uint8), OFF, spec=spec)
    np.testing.assert_allclose(flat, 90, atol=0.01)


# --- one variation at a time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_each_variation_does_something_and_stays_in_range(name: str) -> None:
    varied = vary(PIXELS, replace(OFF, **{name: ONE_BY_ONE[name]}))
    assert np.abs(varied - PIXELS).max() > 5
    assert varied.min() >= 0
    assert varied.max() <= 255


@pytest.mark.parametrize("name", ["gamma", "contrast", "exposure"])
def test_tones_keep_the_order_of_greys(name: str) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(8, axis=0)
    varied = vary(ramp, replace(OFF, **{name: ONE_BY_ONE[name]})).reshape(8, 256)
    assert (np.diff(varied, axis=1) >= -1e-3).all()


def test_a_crop_stays_inside_the_picture() -> None:
    flat = np.full((64, 24, 32, 1), 200, np.uint8)
    np.testing.assert_allclose(vary(flat, replace(OFF, crop_area_min=0.05)), 200, atol=0.1)  # no black comes in


def test_of_a_negative_picture_some_is_cut_above_and_below_and_nothing_beside() -> None:
    down = np.tile(np.arange(50, 150, dtype=np.uint8)[None, :, None, None], (64, 1, 100, 1))
    varied = vary(down, replace(OFF, negative_cut=0.2)) - 50
    above, below = varied[:, 1, 50, 0] - 1, 98 - varied[:, -2, 50, 0]
    for cut in (above, below):
        assert -1 < cut.min() < 3
        assert 17 < cut.max() <= 20
        assert cut.mean() == pytest.approx(10, abs=2.5)
    assert abs(np.corrcoef(above, below)[0, 1]) < 0.35
    across = down.transpose(0, 2, 1, 3)
    np.testing.assert_allclose(vary(across, replace(OFF, negative_cut=0.2))[:, 1:-1], across[:, 1:-1], atol=0.01)


def test_of_a_positive_picture_nothing_is_cut() -> None:
    positive = np.arange(16) % 3 == 0
    config = replace(OFF, negative_cut=0.3)
    varied = vary(PIXELS, config, positive=positive)
    np.testing.assert_allclose(varied[positive], PIXELS[positive], atol=0.01)
    np.testing.assert_array_equal(varied[~positive], vary(PIXELS, config)[~positive])


def test_what_was_cut_does_not_come_back_when_the_picture_shrinks() -> None:
    flat = np.full((64, 60, 60, 1), 200, np.uint8)
    shrunk = vary(flat, replace(OFF, negative_cut=0.25, crop_area_max=2.0))
    whole = vary(flat, replace(OFF, crop_area_max=2.0))
    np.testing.assert_allclose((shrunk > 100).mean(axis=(1, 2, 3)), (whole > 100).mean(axis=(1, 2, 3)), atol=0.06)
    assert shrunk[:, :, 30].max(axis=(1, 2)) == pytest.approx(200, abs=0.1)


def test_a_crop_enlarges_what_it_keeps() -> None:
    spot = np.zeros((64, 32, 32, 1), np.uint8)
    spot[:, 14:18, 14:18] = 255
    areas = vary(spot, replace(OFF, crop_area_min=0.25)).sum(axis=(1, 2, 3)) / (255 * 16)
    inside = areas[areas > 0.9]
    assert len(inside) > 10
    assert inside.max() == pytest.approx(4.0, rel=0.25)  # a quarter of the area, four times as large


def test_a_flip_mirrors_about_half_of_the_images_exactly() -> None:
    pixels = np.tile(PIXELS, (8, 1, 1, 1))
    varied = vary(pixels, replace(OFF, flip=True))
    mirrored = np.abs(varied - pixels[:, :, ::-1]).max(axis=(1, 2, 3)) < 0.05
    as_they_are = np.abs(varied - pixels).max(axis=(1, 2, 3)) < 0.05
    assert (mirrored ^ as_they_are).all()
    assert 0.3 < mirrored.mean() < 0.7


def test_a_rotation_keeps_the_centre() -> None:
    spot = np.zeros((8, 33, 33, 1), np.uint8)
    spot[:, 14:19, 14:19] = 255
    rotated = vary(spot, replace(OFF, rotation_deg=30.0))
    np.testing.assert_allclose(rotated[:, 16, 16, 0], 255, atol=1)
    np.testing.assert_allclose(rotated.sum(axis=(1, 2, 3)), 255 * 25, rtol=0.05)


def test_samples_are_those_of_scipy_and_black_outside() -> None:
    """Of three channels, to another size, by transforms that leave the picture on every side."""
    pixels = PIXELS.reshape(-1, 16, 16, 3)
    rng = np.random.default_rng(3)
    transforms = rng.normal([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.4, 0.4, 6.0, 0.4, 0.4, 6.0], (len(pixels), 6))
    sampled = _compiled(_sample)(tf.constant(pixels), tf.constant(transforms, tf.float32), 20, 12).numpy()
    v, u = np.mgrid[:20, :12]
    for picture, (a, b, c, d, e, f), found in zip(pixels, transforms, sampled, strict=True):
        at = [d * u + e * v + f, a * u + b * v + c]
        for channel in range(3):
            expected = map_coordinates(picture[..., channel].astype(float), at, order=1, mode="grid-constant")
            np.testing.assert_allclose(found[..., channel], expected, atol=0.05)


def test_noise_has_the_spread_asked_for_and_no_mean() -> None:
    grey = np.full((64, 33, 31, 1), 128, np.uint8)
    noise = vary(grey, replace(OFF, noise=0.1)) - 128.0
    deviations = noise.std(axis=(1, 2, 3))
    assert np.abs(noise.mean(axis=(1, 2, 3))).max() < 4 * 0.1 * 255 / np.sqrt(33 * 31)
    assert (deviations == 0).sum() in range(20, 45)  # of half of the images none
    assert 0.08 * 255 < deviations.max() < 0.102 * 255
    assert np.abs(noise).max() < np.sqrt(3) * 0.1 * 255 + 0.01


def test_a_box_is_erased_in_about_half_of_the_images_and_no_larger_than_asked() -> None:
    black = np.zeros((128, 40, 40, 1), np.uint8)
    erased = vary(black, replace(OFF, erase=0.5)) == 127.5
    rows, columns = erased.any(axis=(2, 3)).sum(axis=1), erased.any(axis=(1, 3)).sum(axis=1)
    assert 0.3 < (rows > 0).mean() < 0.65
    assert max(rows.max(), columns.max()) <= 21


def test_mixup_weights() -> None:
    seed = np.array([1, 2], np.int32)
    weights = mixup_weights(500, seed, 0.4).numpy()
    assert weights.shape == (500,)
    assert weights.dtype == np.float32
    assert weights.min() >= 0.5
    assert weights.max() <= 1.0
    assert np.ptp(weights) > 0.3
    np.testing.assert_array_equal(weights, mixup_weights(500, seed, 0.4).numpy())
    np.testing.assert_array_equal(mixup_weights(3, seed, 0.0).numpy(), 1.0)


@pytest.mark.parametrize(
    "bad",
    [{"crop_area_min": 0.0}, {"crop_area_min": 1.1}, {"crop_aspect": 0.9}, {"rotation_deg": 46.0}, {"noise": 1.5},
     {"mixup": -0.1}, {"margin": 0.9}],
)  # fmt: skip
def test_bounds(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        replace(OFF, **bad)
