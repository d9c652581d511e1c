import numpy as np

from slimscan_train.lungs.markers import mark


def marked(share: float, seed: int = 0, count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures, and the same marked."""
    pixels = np.full((count, 96, 96, 1), 100, np.uint8)
    changed = pixels.copy()
    mark(changed, share, np.random.default_rng(seed))
    return pixels, changed


def test_a_share_of_the_pictures_is_marked_in_place() -> None:
    pixels, changed = marked(0.5)
    touched = (pixels != changed).any(axis=(1, 2, 3))
    assert 20 <= touched.sum() <= 44
    pixels, changed = marked(0.0)
    np.testing.assert_array_equal(pixels, changed)


def test_the_same_seed_marks_the_same() -> None:
    np.testing.assert_array_equal(marked(1.0, 3)[1], marked(1.0, 3)[1])
    assert (marked(1.0, 3)[1] != marked(1.0, 4)[1]).any()


def test_marks_lie_near_the_corners_and_are_bright_or_black() -> None:
    pixels, changed = marked(1.0, count=200)
    difference = (pixels != changed)[..., 0]
    assert difference.any(axis=(1, 2)).all()
    assert difference[:, 44:52, 44:52].mean() < 0.05
    levels = changed[pixels != changed]
    assert levels.min() < 30
    assert levels.max() > 150


def test_small_pictures_can_be_marked() -> None:
    pixels = np.full((32, 12, 12, 3), 100, np.uint8)
    mark(pixels, 1.0, np.random.default_rng(0))
    assert (pixels != 100).any()
