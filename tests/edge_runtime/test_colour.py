"""Colours are noted while a picture is made grey, and the grey stays what it was."""

import io

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.colour import IN_COLOUR
from slimscan_edge.isolate import IsolatedDecoder
from slimscan_edge.preprocess import PreprocessSpec, decode

SPEC = PreprocessSpec(height=16, width=16)


@pytest.fixture
def coloured() -> Image.Image:
    down, across = np.mgrid[:128, :128] * 2
    return Image.fromarray(np.stack([down, across, 255 - down], axis=2).astype(np.uint8))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_colours_are_noted_and_grey_in_rgb_is_not(encode, coloured, file_format):
    grey = coloured.convert("L").convert("RGB")
    assert IN_COLOUR in decode(encode(coloured, file_format), SPEC).info
    assert IN_COLOUR not in decode(encode(grey, file_format), SPEC).info


def test_a_model_of_three_channels_is_told_nothing(encode, coloured):
    spec = PreprocessSpec(height=16, width=16, channels=3)
    assert IN_COLOUR not in decode(encode(coloured, "JPEG"), spec).info


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_the_luma_of_a_coloured_jpeg_is_read_as_it_was_alone(encode, coloured, subsampling):
    raw = encode(coloured, "JPEG", subsampling=subsampling)
    alone = Image.open(io.BytesIO(raw))
    alone.draft("L", (16, 16))
    np.testing.assert_array_equal(np.asarray(decode(raw, SPEC)), np.asarray(alone))


def test_a_decoder_apart_notes_them_too(encode, coloured):
    with IsolatedDecoder() as decoder:
        assert IN_COLOUR in decoder.decode(encode(coloured, "PNG"), SPEC).info
