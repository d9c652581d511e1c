import dataclasses

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.classifier import Finding
from slimscan_edge.errors import BundleError, ImageError
from slimscan_edge.files import image_files
from slimscan_edge.interpreter import TensorSpec
from slimscan_edge.overlay import (
    LONG_SIDE,
    OPACITY,
    VIRIDIS,
    colours,
    draw_overlay,
    evidence_scale,
    place_evidence,
    write_overlay,
)
from slimscan_edge.preprocess import PreprocessSpec

STRETCH = PreprocessSpec(height=32, width=32)
GREY = np.full((600, 600), 90, np.uint8)


@pytest.fixture
def finding(classifier):
    """A finding with any evidence map: `finding(map)`."""

    def found(evidence, **changes) -> Finding:
        answered = classifier.predict(np.full((32, 32), 200, np.uint8))
        return dataclasses.replace(answered, evidence=np.asarray(evidence, np.float32), **changes)

    return found


def corner(size: int = 4) -> np.ndarray:
    """A map with all of its evidence in the top left corner."""
    evidence = np.full((size, size), -1.0, np.float32)
    evidence[0, 0] = 1.0
    return evidence


def test_a_stretched_map_covers_the_picture():
    placed = place_evidence(corner(), (400, 200), STRETCH)
    assert placed.shape == (200, 400)
    assert placed[:25, :50].min() > 0.5  # the corner cell is 100 wide and 50 high
    assert max(placed[100:, :].max(), placed[:, 200:].max()) < 0.006  # no evidence where there is none


def test_evidence_counts_from_a_probability_of_one_half(finding, classifier):
    manifest = classifier.manifest
    point = dataclasses.replace(manifest.operating_point, bias=3.0)
    biased = dataclasses.replace(manifest, operating_point=point)
    even, above = (finding(np.full((8, 8), logit)) for logit in (-3.0, 0.0))
    assert (np.asarray(draw_overlay(GREY, even, biased))[300, 300] == 90).all()
    assert (np.asarray(draw_overlay(GREY, above, manifest))[300, 300] == 90).all()
    assert np.ptp(np.asarray(draw_overlay(GREY, above, biased))[300, 300]) > 5
    assert evidence_scale(biased) == pytest.approx(evidence_scale(manifest) + 3.0)


def test_letterbox_bars_hold_no_picture():
    # A 400x200 picture fills rows 16 to 48 of the 64x64 input: rows 1 and 2 of a 4x4 map.
    spec = PreprocessSpec(height=64, width=64, fit="letterbox")
    evidence = np.zeros((4, 4), np.float32)
    evidence[1] = 1.0
    placed = place_evidence(evidence, (400, 200), spec)
    assert not np.isnan(placed).any()
    assert placed[:80].min() > 0.5  # the row is 100 high, the bars above it are outside the picture
    assert placed[98:102] == pytest.approx(0.5, abs=0.1)  # rows 1 and 2 meet here
    assert placed[160:].max() < 0.02


def test_what_a_crop_leaves_out_is_unseen():
    spec = PreprocessSpec(height=64, width=64, fit="crop")
    placed = place_evidence(np.ones((4, 4), np.float32), (400, 200), spec)
    assert np.isnan(placed[:, :100]).all()
    assert (placed[:, 100:300] == 1.0).all()
    assert np.isnan(placed[:, 300:]).all()


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(512, 512), (1024, 3), (1, 1024), (333, 777)])
def test_any_shape_of_picture_can_be_drawn_on(fit, size):
    placed = place_evidence(np.ones((5, 5), np.float32), size, PreprocessSpec(height=160, width=96, fit=fit))
    assert placed.shape == (size[1], size[0])
    assert np.nanmin(placed) == np.nanmax(placed) == 1.0


def test_lightness_rises_evenly_with_strength():
    rgb = colours(np.linspace(0.0, 1.0, 101, dtype=np.float32)) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16  # CIE L*, from sRGB
    steps = np.diff(lightness)
    assert steps.min() > 0
    assert steps.max() < 2.2 * steps.mean()


def test_no_evidence_for_leaves_the_xray_as_it_is(finding, classifier):
    for evidence in (np.zeros((8, 8)), np.full((8, 8), -8.0)):
        drawn = np.asarray(draw_overlay(GREY, finding(evidence), classifier.manifest))
        assert (drawn[:600] == 90).all()


def test_the_scale_is_the_bundles_and_not_the_pictures(finding, classifier):
    assert evidence_scale(classifier.manifest) == pytest.approx(127 * 0.0627451)
    strong = np.asarray(draw_overlay(GREY, finding(np.full((8, 8), 7.96862)), classifier.manifest))[300, 300]
    weak = np.asarray(draw_overlay(GREY, finding(np.full((8, 8), 0.4)), classifier.manifest))[300, 300]
    assert strong == pytest.approx(VIRIDIS[-1] * OPACITY + 90 * (1 - OPACITY), abs=1)
    assert np.abs(weak.astype(int) - 90).max() < 30


def test_the_same_evidence_has_the_same_colour_whatever_else_is_there(finding, classifier):
    alone, beside = np.zeros((2, 8, 8))
    alone[0, 0] = beside[0, 0] = 2.0
    beside[7, 7] = 8.0
    first, second = (
        np.asarray(draw_overlay(GREY, finding(evidence), classifier.manifest)) for evidence in (alone, beside)
    )
    assert (first[:200, :200] == second[:200, :200]).all()


def test_evidence_without_a_bound_has_no_scale(golden_bundle):
    logits, _ = golden_bundle.manifest.outputs
    floats = TensorSpec(shape=(1, 8, 8, 1), dtype="float32")
    manifest = dataclasses.replace(golden_bundle.manifest, outputs=(logits, floats))
    with pytest.raises(BundleError, match="no scale to draw it on"):
        evidence_scale(manifest)


@pytest.mark.parametrize(
    ("size", "drawn"), [((3000, 1500), (1024, 512)), ((700, 900), (700, 900)), ((64, 32), (512, 256))]
)
def test_the_picture_has_a_sensible_size(finding, classifier, size, drawn):
    sheet = draw_overlay(Image.new("L", size), finding(np.zeros((8, 8))), classifier.manifest)
    assert sheet.width == max(drawn[0], 512)
    assert drawn[1] < sheet.height < drawn[1] + 200
    assert max(drawn) <= LONG_SIDE


def caption(sheet: Image.Image) -> np.ndarray:
    return np.asarray(sheet)[600:]


def test_the_caption_tells_decisions_probabilities_and_failed_gates_apart(finding, classifier):
    evidence, manifest = np.zeros((8, 8)), classifier.manifest
    captions = [
        caption(draw_overlay(GREY, finding(evidence, **changes), dataclasses.replace(manifest, verdict=verdict)))
        for changes, verdict in (
            ({}, "PASS"),
            ({"decision": "negative"}, "PASS"),
            ({"decision": "refer"}, "PASS"),
            ({"probability": 0.123}, "PASS"),
            ({}, "FAIL"),
        )
    ]
    assert len({image.tobytes() for image in captions}) == len(captions)


def test_an_overlay_is_a_png_and_nothing_else_is_left(finding, classifier, tmp_path):
    target = tmp_path / "overlays" / "x.png"
    write_overlay(target, GREY, finding(np.ones((8, 8))), classifier.manifest)
    assert list(target.parent.iterdir()) == [target]
    with Image.open(target) as image:
        assert (image.format, image.mode, image.width) == ("PNG", "RGB", 600)


def test_a_picture_that_cannot_be_read_leaves_nothing(finding, classifier, tmp_path):
    with pytest.raises(ImageError):
        write_overlay(tmp_path / "x.png", b"no picture", finding(np.ones((8, 8))), classifier.manifest)
    assert list(tmp_path.iterdir()) == []


def test_real_xrays_of_all_shapes_can_be_drawn(shared_data, classifier):
    for path in image_files([shared_data / "chest_xray_fullsize"])[::15]:
        sheet = draw_overlay(path, classifier.predict(path), classifier.manifest)
        assert max(sheet.width, sheet.height - 136) <= LONG_SIDE
