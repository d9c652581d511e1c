import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from slimscan_edge.errors import ImageError, InputError
from slimscan_edge.files import Unreadable
from slimscan_edge.preprocess import PreprocessSpec, preprocess
from slimscan_train import pixels as pixels_module
from slimscan_train.pixels import cache_folder, load_pixels, refuse_unreadable

SPEC = PreprocessSpec(height=8, width=8)


class Decoded(list[Path]):
    """The files that were decoded, in any order."""

    def take(self) -> list[str]:
        names = sorted(path.name for path in self)
        self.clear()
        return names


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIMSCAN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Decoded:
    seen = Decoded()
    original = pixels_module.decode

    def counted(source: Path, spec: PreprocessSpec) -> Image.Image:
        seen.append(source)
        return original(source, spec)

    monkeypatch.setattr(pixels_module, "decode", counted)
    return seen


@pytest.fixture
def files(tmp_path: Path, draw: Callable[..., Path]) -> list[Path]:
    return [draw(tmp_path / f"{index}.png", seed=index) for index in range(3)]


def digests(files: Sequence[Path]) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_pixels_are_those_of_the_device(files: list[Path]) -> None:
    pixels, bad = load_pixels(files, digests(files), SPEC)
    assert bad == ()
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 8, 8, 1)
    for file, found in zip(files, pixels, strict=True):
        np.testing.assert_array_equal(found, preprocess(file, SPEC))


def test_a_second_time_nothing_is_decoded(files: list[Path], decoded: Decoded) -> None:
    first, _ = load_pixels(files, digests(files), SPEC)
    assert decoded.take() == ["0.png", "1.png", "2.png"]
    again, _ = load_pixels(files, digests(files), SPEC)
    assert decoded.take() == []
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "change", [{"height": 9}, {"fit": "letterbox"}, {"resize_filter": "box"}, {"intensity": "percentile"}]
)
def test_another_preprocessing_is_decoded_anew(files: list[Path], decoded: Decoded, change: dict[str, object]) -> None:
    load_pixels(files, digests(files), SPEC)
    decoded.clear()
    load_pixels(files, digests(files), replace(SPEC, **change))
    assert len(decoded) == 3


def test_another_content_order_or_shift_is_decoded_anew(
    files: list[Path], decoded: Decoded, draw: Callable[..., Path]
) -> None:
    before, _ = load_pixels(files, digests(files), SPEC)
    draw(files[1], seed=9)
    changed, _ = load_pixels(files, digests(files), SPEC)
    np.testing.assert_array_equal(before[0], changed[0])
    assert not np.array_equal(before[1], changed[1])
    backwards, _ = load_pixels(files[::-1], digests(files[::-1]), SPEC)
    np.testing.assert_array_equal(backwards[::-1], changed)
    inverted, _ = load_pixels(files, digests(files), SPEC, shift=ImageOps.invert, shift_name="inverted")
    np.testing.assert_allclose(inverted.astype(int), 255 - changed.astype(int), atol=1)  # rounding when resized
    assert len(decoded) == 12


def test_another_release_or_decoder_is_decoded_anew(
    files: list[Path], decoded: Decoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_pixels(files, digests(files), SPEC)
    decoded.clear()
    monkeypatch.setattr(pixels_module, "version", lambda package: "0.0")
    load_pixels(files, digests(files), SPEC)
    assert len(decoded) == 3


@pytest.mark.parametrize("left", [0, 60, 200])
def test_a_cache_that_lost_its_end_is_made_anew(files: list[Path], decoded: Decoded, left: int) -> None:
    load_pixels(files, digests(files), SPEC)
    decoded.clear()
    (kept,) = cache_folder().iterdir()
    kept.write_bytes(kept.read_bytes()[:left])
    again, _ = load_pixels(files, digests(files), SPEC)
    assert len(decoded) == 3
    assert again.shape == (3, 8, 8, 1)
    assert list(cache_folder().iterdir()) == [kept]


def test_what_this_machine_could_not_decode_is_tried_again(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(source: Path, spec: PreprocessSpec) -> Image.Image:
        raise ImageError(f"{source}: install the decoder")

    with monkeypatch.context() as patch:
        patch.setattr(pixels_module, "decode", lacking)
        _, bad = load_pixels(files, digests(files), SPEC)
        assert len(bad) == 3
    pixels, bad = load_pixels(files, digests(files), SPEC)
    assert bad == ()
    np.testing.assert_array_equal(pixels[0], preprocess(files[0], SPEC))


def test_a_file_that_is_not_what_it_was_is_not_taken_for_it(files: list[Path], draw: Callable[..., Path]) -> None:
    told = digests(files)
    right = files[1].read_bytes()
    draw(files[1], seed=9)
    pixels, bad = load_pixels(files, told, SPEC)
    assert [found.path for found in bad] == [str(files[1])]
    assert "is not what it was" in bad[0].reason
    assert not pixels[1].any()
    files[1].write_bytes(right)
    pixels, bad = load_pixels(files, told, SPEC)
    assert bad == ()
    np.testing.assert_array_equal(pixels[1], preprocess(files[1], SPEC))


def test_a_cache_that_cannot_be_written_is_named(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SLIMSCAN_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"the cache .*file cannot be written .*set SLIMSCAN_CACHE"):
        load_pixels(files, digests(files), SPEC)


def test_unreadable_images_are_listed_each_time_and_the_others_stay_in_place(files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:60])
    for _ in range(2):  # from the files, then from the cache
        pixels, bad = load_pixels(files, digests(files), SPEC)
        assert [found.path for found in bad] == [str(files[1])]
        assert "damaged or incomplete" in bad[0].reason
        assert not pixels[1].any()
        np.testing.assert_array_equal(pixels[2], preprocess(files[2], SPEC))


def test_the_cache_of_moved_files_names_them_where_they_are(files: list[Path], tmp_path: Path) -> None:
    files[1].write_bytes(b"")
    load_pixels(files, digests(files), SPEC)
    (tmp_path / "moved").mkdir()
    moved = [file.rename(tmp_path / "moved" / file.name) for file in files]
    _, bad = load_pixels(moved, digests(moved), SPEC)
    assert [found.path for found in bad] == [str(moved[1])]


def test_unreadable_images_above_the_share_are_refused_each_with_its_reason() -> None:
    bad = [Unreadable(path=f"{index}.png", reason=f"reason {index}") for index in range(25)]
    refuse_unreadable(bad[:1], 100, 0.01)
    refuse_unreadable([], 0, 0.0)
    with pytest.raises(InputError, match=r"2 of 100 images cannot be read, at most 1.0% may") as refused:
        refuse_unreadable(bad[:2], 100, 0.01)
    assert "\n  0.png: reason 0\n  1.png: reason 1" in str(refused.value)
    with pytest.raises(InputError, match=r"19.png: reason 19\n  and 5 more"):
        refuse_unreadable(bad, 100, 0.01)


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLIMSCAN_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("SLIMSCAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "slimscan"
