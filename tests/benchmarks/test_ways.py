import dataclasses

import numpy as np
import pytest
from PIL import Image

from slimscan_bench.ways import WAYS, floor, plain
from slimscan_edge.bundle import Bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import ImageError


@pytest.fixture
def with_spec(golden_bundle: Bundle):
    """The golden classifier with other preprocessing."""

    def made(**changes) -> Classifier:
        spec = dataclasses.replace(golden_bundle.manifest.preprocess, **changes)
        manifest = dataclasses.replace(golden_bundle.manifest, preprocess=spec)
        return Classifier(dataclasses.replace(golden_bundle, manifest=manifest), threads=1)

    return made


@pytest.fixture
def gradient(tmp_path):
    path = tmp_path / "gradient.jpeg"
    levels = np.add.outer(np.arange(300), np.arange(400)) * (110 / 700) + 60
    Image.fromarray(levels.astype(np.uint8)).save(path, quality=95)
    return path


def test_a_file_that_only_ours_reads_is_refused_by_name(with_spec, tmp_path):
    dicom = tmp_path / "x.dcm"
    dicom.write_bytes(bytes(128) + b"DICM" + bytes(500))
    for way in WAYS.values():
        with pytest.raises(ImageError, match=r"x\.dcm is no picture that plain and floor read"):
            way(with_spec())(dicom)


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("intensity", ["none", "percentile"])
def test_the_usual_way_says_what_ours_says(with_spec, gradient, fit, intensity):
    classifier = with_spec(fit=fit, intensity=intensity)
    two_steps = 0.04  # of the output's integers, where the sigmoid is steepest
    assert plain(classifier)(gradient) == pytest.approx(classifier.predict(gradient).probability, abs=two_steps)


def test_pixels_that_need_no_resizing_enter_the_network_of_the_usual_way_untouched(with_spec, tmp_path, monkeypatch):
    levels = np.arange(1024).reshape(32, 32).astype(np.uint8)  # every level four times, in the input's size
    Image.fromarray(levels).save(tmp_path / "levels.png")
    classifier, seen = with_spec(intensity="none"), []
    invoke = classifier.interpreter.invoke
    monkeypatch.setattr(classifier.interpreter, "invoke", lambda pixels: seen.append(pixels) or invoke(pixels))
    plain(classifier)(tmp_path / "levels.png")
    assert (seen[0] == levels[np.newaxis, :, :, np.newaxis]).all()


def test_the_floor_says_what_ours_says_where_no_intensity_is_normalised(with_spec, gradient):
    classifier = with_spec(intensity="none", jpeg_oversample=2)
    assert floor(classifier)(gradient) == pytest.approx(classifier.predict(gradient).probability, abs=1e-6)


def test_the_floor_leaves_the_normalisation_out(with_spec, tmp_path):
    dark = tmp_path / "dark.png"
    Image.fromarray(np.repeat(np.linspace(20, 80, 64).astype(np.uint8)[None], 64, axis=0)).save(dark)
    classifier = with_spec(intensity="percentile")
    assert floor(classifier)(dark) < 0.1 < plain(classifier)(dark)


def test_a_picture_of_one_grey_level_is_not_stretched(with_spec, tmp_path):
    flat = tmp_path / "flat.png"
    Image.new("L", (50, 40), 200).save(flat)
    classifier = with_spec(intensity="percentile")
    assert plain(classifier)(flat) == pytest.approx(classifier.predict(flat).probability)


def test_colour_is_read_as_the_bundle_wants_it(with_spec, gradient, tmp_path):
    colour = tmp_path / "colour.jpeg"
    Image.open(gradient).convert("RGB").save(colour, quality=95)
    classifier = with_spec()
    for way in WAYS.values():
        assert way(classifier)(colour) == pytest.approx(way(classifier)(gradient), abs=0.04)
