import numpy as np
import pytest
from PIL import Image

from slimscan_train import shifts
from slimscan_train.shifts import SHIFTS

GREY = Image.fromarray(np.random.default_rng(0).integers(40, 200, (60, 80), dtype=np.uint8))
COLOUR = Image.merge("RGB", (GREY, GREY.transpose(Image.Transpose.FLIP_LEFT_RIGHT), GREY))
FLAT = Image.new("L", (80, 60), 100)
RESIZING = {
    "crop-0.85": (0.85, 0.85),
    "crop-width-0.83": (0.83, 1.0),
    "crop-height-0.83": (1.0, 0.83),
    "widen-0.85": (1 / 0.85, 1 / 0.85),
}
"""By what the width and the height are multiplied."""


@pytest.mark.parametrize("picture", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("name", SHIFTS)
def test_each_keeps_the_mode_changes_the_picture_and_does_the_same_each_time(name: str, picture: Image.Image) -> None:
    before = picture.tobytes()
    first, again = SHIFTS[name](picture), SHIFTS[name](picture)
    assert first.mode == picture.mode
    assert first.tobytes() == again.tobytes() != before
    assert picture.tobytes() == before


@pytest.mark.parametrize("name", SHIFTS)
def test_only_cropping_and_widening_change_the_size(name: str) -> None:
    wider, higher = RESIZING.get(name, (1.0, 1.0))
    assert SHIFTS[name](GREY).size == pytest.approx((80 * wider, 60 * higher), abs=1)


@pytest.mark.parametrize(
    "shift",
    [
        shifts._tone(lambda level: level),
        shifts._noise(0.0),
        shifts._rotate(0.0),
        shifts._crop(1.0, 1.0),
        shifts._widen(1.0),
        shifts._blur(0.0),
    ],
    ids=["tone", "noise", "rotate", "crop", "widen", "blur"],
)
def test_a_shift_by_nothing_is_the_identity(shift: object) -> None:
    assert shift(GREY).tobytes() == GREY.tobytes()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "grey"),
    [
        ("darker", round(100 - 0.15 * 255)),
        ("brighter", round(100 + 0.15 * 255)),
        ("gamma-0.7", round(255 * (100 / 255) ** 0.7)),
        ("gamma-1.4", round(255 * (100 / 255) ** 1.4)),
        ("contrast-0.7", round(127.5 + 0.7 * (100 - 127.5))),
        ("contrast-1.4", round(127.5 + 1.4 * (100 - 127.5))),
        ("blur", 100),
    ],
)
def test_what_a_flat_picture_becomes(name: str, grey: int) -> None:
    assert set(SHIFTS[name](FLAT).tobytes()) == {grey}


def test_tones_stay_in_range() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(4, axis=0))
    assert SHIFTS["brighter"](ramp).getextrema() == (38, 255)
    assert SHIFTS["darker"](ramp).getextrema() == (0, 217)


def test_crop_keeps_the_middle_and_widen_puts_it_in_black() -> None:
    framed = Image.new("L", (100, 100), 0)
    framed.paste(200, (10, 10, 90, 90))
    assert SHIFTS["crop-0.85"](framed).getpixel((42, 42)) == 200
    assert np.asarray(SHIFTS["crop-0.85"](framed)).mean() > np.asarray(framed).mean()
    widened = SHIFTS["widen-0.85"](FLAT)
    assert widened.getpixel((0, 0)) == 0
    assert widened.getpixel((widened.width // 2, widened.height // 2)) == 100
    assert np.asarray(widened).astype(float).sum() == 100 * 80 * 60


def test_the_two_rotations_are_opposite() -> None:
    half = np.zeros((81, 81), np.uint8)
    half[:40] = 200
    left, right = (np.asarray(SHIFTS[name](Image.fromarray(half))) for name in ("rotate-left", "rotate-right"))
    assert left[40, 70] < left[40, 10]  # what was above has moved to the left
    assert right[40, 70] > right[40, 10]


def test_noise_has_its_deviation_on_a_picture_of_224_pixels() -> None:
    noisy = np.asarray(SHIFTS["noise"](Image.new("L", (224, 224), 128)), float)
    assert noisy.std() == pytest.approx(0.04 * 255, rel=0.05)
    assert noisy.mean() == pytest.approx(128, abs=0.3)
