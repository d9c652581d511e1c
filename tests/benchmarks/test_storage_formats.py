"""The table of storage formats, on drawn X-rays and with the golden bundle."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from slimscan_bench.typical_images import write_typical_images

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "storage_formats.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


def test_a_drawn_xray_is_answered_alike_however_it_is_stored(script, classifier, tmp_path):
    path = write_typical_images(tmp_path)[-1]
    with Image.open(path) as image:
        drawn = image.convert("L")
    sizes = (drawn.size, (241, 333), (199, 197))  # from black to white, as deep pictures without a window are shown
    pictures = [ImageOps.autocontrast(drawn.resize(size)) for size in sizes]
    rows = script["compare"](classifier, pictures)
    assert len(rows) == 12 + 16
    assert [row.name for row in rows if not row.passed] == []
    assert all(len(row.pairs) == 3 for row in rows)
    assert len(script["as_table"](rows).splitlines()) == 2 + 28


def test_sizes_have_every_rest_of_a_block(script):
    cuts = script["CUTS"]
    assert len(set(cuts)) == 20
    assert {columns for columns, _ in cuts} == {rows for _, rows in cuts} == set(range(8))


def test_a_change_is_told(script):
    answer, row = script["Answer"], script["Row"]
    plain = answer(probability=0.6, decision="positive")
    nearly = row(name="a", pairs=((answer(probability=0.59, decision="refer"), plain),))
    assert (nearly.passed, nearly.changed, nearly.turned) == (True, 1, 0)
    far = row(name="b", pairs=((answer(probability=0.5, decision="positive"), plain),))
    assert not far.passed
    rejected = row(name="c", pairs=((answer(probability=np.nan, decision="rejected"), plain),))
    assert (rejected.passed, rejected.turned) == (False, 1)
