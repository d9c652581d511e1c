from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.preprocess import PreprocessSpec
from slimscan_train.augment import UNVARIED, augment
from slimscan_train.dataset import LabelledImage
from slimscan_train.lungs.surroundings import MARGIN, SWAPS, measure_lungs, swap_picture, swapped_pixels
from slimscan_train.split import Split

SPEC = PreprocessSpec(height=64, width=64)
ALL_SWAPPED = replace(UNVARIED, swap=1.0)
BOX = np.float32([0.25, 0.25, 0.75, 0.75])
LARGE = np.float32([0.15, 0.15, 0.85, 0.85])


def flat(*levels: int, side: int = 64) -> np.ndarray:
    return np.stack([np.full((side, side, 1), level, np.uint8) for level in levels])


def varied(pixels: np.ndarray, boxes: np.ndarray, config: object = ALL_SWAPPED, seed: int = 0) -> np.ndarray:
    lungs = measure_lungs(pixels, np.asarray(boxes, np.float32))
    return augment(pixels, np.zeros(len(pixels), bool), np.array([seed, 1], np.int32), config, SPEC, lungs).numpy()


# --- what is measured ------------------------------------------------------------------------------------------------


def test_grey_is_measured_in_the_box_with_its_margin() -> None:
    pixels = flat(10)
    pixels[0, 16:48, 16:32] = 100
    pixels[0, 16:48, 32:48] = 140
    ((left, top, right, bottom, mean, spread),) = measure_lungs(pixels, BOX[None])
    np.testing.assert_allclose([left, top, right, bottom], [0.22, 0.22, 0.78, 0.78], atol=1e-6)
    inside = pixels[0, 14:50, 14:50]
    assert mean == pytest.approx(inside.mean())
    assert spread == pytest.approx(inside.std())


def test_the_margin_ends_at_the_frame_and_flat_lungs_have_some_spread() -> None:
    ((left, top, right, bottom, mean, spread),) = measure_lungs(flat(7), np.float32([[0.01, 0.0, 1.0, 0.99]]))
    assert (left, top, right, bottom) == (0.0, 0.0, 1.0, 1.0)
    assert (mean, spread) == (7.0, 1.0)


# --- in training -----------------------------------------------------------------------------------------------------


def test_lungs_stay_and_surroundings_come_from_another_image_of_the_batch() -> None:
    levels = [20, 60, 100, 140, 180, 220, 240, 250]
    seen = varied(flat(*levels), np.tile(LARGE, (8, 1)))[..., 0]
    around = []
    for level, picture in zip(levels, seen, strict=True):
        donor = picture[0, 0]
        assert min(abs(donor - other) for other in levels) < 0.5
        # Flat lungs in the donor's tone are flat at the donor's level; else at their own.
        assert min(abs(picture[32, 32] - level), abs(picture[32, 32] - donor)) < 0.5
        around.append(donor)
    assert sorted(np.rint(around)) == levels  # each gives its surroundings once


def test_half_of_the_lungs_take_the_donors_tone_over() -> None:
    levels = np.linspace(20, 235, 64).astype(int)
    seen = varied(flat(*levels), np.tile(LARGE, (64, 1)))[..., 0]
    own = np.abs(seen[:, 32, 32] - levels) < 0.6
    donors = np.abs(seen[:, 32, 32] - seen[:, 0, 0]) < 0.6
    assert (own | donors).all()
    assert 16 <= own.sum() <= 48


def test_lungs_are_fitted_into_the_donors_box() -> None:
    """A bright centre line of the lungs lies in the middle of the donor's box, which is elsewhere in the frame."""
    pixels = flat(100, 100)
    pixels[0, 31:33, 16:48] = 255  # across the middle of the box
    boxes = np.float32([[0.25, 0.25, 0.75, 0.75], [0.4, 0.5, 0.9, 0.9]])
    for seed in range(20):
        seen = varied(pixels, boxes, seed=seed)[0, ..., 0]
        if seen[45, 42] > 150:  # image 0 in the surroundings of image 1; the middle of that box is at 0.65, 0.7
            break
    assert seen[45, 42] > 150
    assert abs(int(np.argmax(seen[:, 42])) - 44) <= 3
    assert seen[32, 5] == pytest.approx(100, abs=0.5)


def test_nothing_is_swapped_without_outlines_or_when_turned_off() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 1), dtype=np.uint8)
    unknown = np.full((8, 4), np.nan)
    np.testing.assert_allclose(varied(pixels, unknown), pixels, atol=0.01)
    np.testing.assert_allclose(varied(pixels, np.tile(LARGE, (8, 1)), UNVARIED), pixels, atol=0.01)


def test_an_image_without_an_outline_neither_takes_nor_gives_surroundings() -> None:
    levels = [20, 60, 100, 140, 180, 220]
    boxes = np.tile(LARGE, (6, 1))
    boxes[2] = np.nan
    seen = varied(flat(*levels), boxes)[..., 0]
    np.testing.assert_allclose(seen[2], 100, atol=0.01)
    others = np.delete(seen[:, 0, 0], 2)
    assert (np.abs(others - 100) > 1).all()


def test_a_share_of_the_images_is_swapped() -> None:
    levels = np.arange(64) * 3 + 10
    seen = varied(flat(*levels), np.tile(LARGE, (64, 1)), replace(UNVARIED, swap=0.5))[..., 0]
    swapped = np.abs(seen[:, 0, 0] - levels) > 1
    assert 16 <= swapped.sum() <= 48


# --- in validation ---------------------------------------------------------------------------------------------------


def test_between_equal_boxes_the_inside_is_ones_own_and_the_outside_the_donors() -> None:
    rng = np.random.default_rng(0)
    own, other = rng.integers(0, 256, (2, 64, 64, 1), dtype=np.uint8)
    lungs = measure_lungs(np.stack([own, other]), np.tile(BOX + np.float32([-1, -1, 1, 1]) * (0.03 - MARGIN), (2, 1)))
    lungs[:, :4] = BOX  # on whole pixels, so that nothing is resampled
    swapped = swap_picture(own, lungs[0], other, lungs[1], toned=False)
    np.testing.assert_array_equal(swapped[24:40, 24:40], own[24:40, 24:40])
    outside = np.ones((64, 64), bool)
    outside[16:48, 16:48] = False
    np.testing.assert_array_equal(swapped[outside], other[outside])


def test_tone_is_taken_over() -> None:
    rng = np.random.default_rng(0)
    own = rng.integers(100, 140, (64, 64, 1), dtype=np.uint8)
    other = rng.integers(20, 40, (64, 64, 1), dtype=np.uint8)
    lungs = measure_lungs(np.stack([own, other]), np.tile(BOX, (2, 1)))
    inside = swap_picture(own, lungs[0], other, lungs[1], toned=True)[22:42, 22:42]
    assert inside.mean() == pytest.approx(30, abs=3)
    assert inside.std() == pytest.approx(other.std(), rel=0.3)


@pytest.fixture
def held_out(record: Callable[..., LabelledImage], tmp_path: Path) -> tuple[Split, dict[str, np.ndarray], Path]:
    """Forty normal and forty ill images of one level each, all with outlines but the first."""
    images, pixels = [], {}
    for number in range(40):
        for series in ("IM", "bacteria"):
            image = record(series, number, split="val", sha256=f"{number * 2 + (series == 'IM'):08x}{'0' * 56}")
            images.append(image)
            pixels[image.path] = flat(40 + number if series == "IM" else 160 + number)[0]
            if images[1:]:
                lung = Image.new("1", (64, 64))
                lung.paste(1, (16, 16, 48, 48))
                file = tmp_path / Path(image.path).with_suffix(".png")
                file.parent.mkdir(exist_ok=True)
                lung.save(file)
    return Split(labels=("NORMAL", "PNEUMONIA"), naming="kermany", images=tuple(images)), pixels, tmp_path


def test_donors_are_other_patients_of_both_classes(held_out: tuple[Split, dict[str, np.ndarray], Path]) -> None:
    split, pixels, outlines = held_out
    seen = {
        swap: swapped_pixels(
            lambda images: np.stack([pixels[image.path] for image in images]), split, outlines, split.images, SPEC, swap
        )
        for swap in SWAPS
    }
    own = np.array([pixels[image.path][0, 0, 0] for image in split.images])
    ill = np.array([split.is_positive(image) for image in split.images])
    for of_draw in seen.values():
        around = of_draw[:, 0, 0, 0]
        assert around[0] == own[0]  # it has no outline, and stays
        assert (around[1:] != own[1:]).all()
        for of_class in (ill, ~ill):
            assert 0.25 < (around[of_class] > 150).mean() < 0.75
    assert len({of_draw.tobytes() for of_draw in seen.values()}) == len(SWAPS)


def test_the_draw_is_fixed_and_does_not_hang_on_which_images_are_asked_for(
    held_out: tuple[Split, dict[str, np.ndarray], Path],
) -> None:
    split, pixels, outlines = held_out

    def read(images: object) -> np.ndarray:
        return np.stack([pixels[image.path] for image in images])

    everything = swapped_pixels(read, split, outlines, split.images, SPEC, SWAPS[0])
    some = swapped_pixels(read, split, outlines, split.images[10:20], SPEC, SWAPS[0])
    np.testing.assert_array_equal(some, everything[10:20])
