import base64
import io
import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.overlay import OPACITY, VIRIDIS
from slimscan_train import plots
from slimscan_train.intervals import Estimate
from slimscan_train.reliability import ReliabilityBin

HOSTILE = '_<script>alert("$x^$")</script>&'
SCORED = plots.ScoredSet(np.array([True, True, False, True, False, False]), np.array([2.0, 1.0, 0.5, -0.2, -1.0, -3.0]))
BINS = (
    ReliabilityBin(images=3, positives=0, probability=0.1),
    ReliabilityBin(images=3, positives=3, probability=0.9),
)

FIGURES: dict[str, Callable[[str], str]] = {
    "epochs": lambda name: plots.epoch_curves([1, 2], {name: [0.5, 0.4]}, kept=2, measure=name),
    "roc": lambda name: plots.roc_curves({name: SCORED}, 0.0),
    "precision recall": lambda name: plots.precision_recall_curves({name: SCORED}, 0.0),
    "reliability": lambda name: plots.reliability_diagram(
        name, before=plots.Reliability(name, BINS), after=plots.Reliability("after", BINS)
    ),
    "histogram": lambda name: plots.score_histogram(name, SCORED, (name, name), 0.0),
    "forest": lambda name: plots.forest_plot(
        name, {name: Estimate(value=0.9, low=0.8, high=0.95)}, marked=name, line=0.98, line_name=name
    ),
}


@pytest.fixture(params=FIGURES)
def figure(request: pytest.FixtureRequest) -> Callable[[str], str]:
    return FIGURES[request.param]


def parsed(svg: str) -> ElementTree.Element:
    """As a page's parser reads it: it knows the prefix that the SVG no longer declares."""
    return ElementTree.fromstring(svg.replace("<svg", '<svg xmlns:xlink="xlink"', 1))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter("text")]


def test_a_figure_refers_to_nothing_outside_itself(figure: Callable[[str], str]) -> None:
    svg = figure("val")
    assert "http" not in svg
    assert set(re.findall(r'href="(.)', svg)) <= {"#"}
    assert "<style" not in svg  # would hold for the whole page


def test_a_figure_takes_its_colours_from_the_page(figure: Callable[[str], str]) -> None:
    svg = figure("val")
    assert "var(--ink," in svg
    assert not re.search(r"#0[1-9]0", svg)


@pytest.mark.filterwarnings("ignore:No artists with labels")  # for a name with an underscore
def test_names_are_text_whatever_they_hold(figure: Callable[[str], str]) -> None:
    svg = figure(HOSTILE)
    assert "<script" not in svg
    assert HOSTILE in parsed(svg).attrib["aria-label"]


def test_the_same_figure_is_the_same_text(figure: Callable[[str], str]) -> None:
    assert figure("val") == figure("val")


def test_a_class_named_with_an_underscore_is_in_the_legend() -> None:
    assert f"3 {HOSTILE}" in texts(plots.score_histogram("val", SCORED, (HOSTILE, "other"), 0.0))


def test_the_histogram_counts_its_classes_and_names_the_threshold() -> None:
    shown = texts(plots.score_histogram("val", SCORED, ("NORMAL", "PNEUMONIA"), 0.0))
    assert {"3 NORMAL", "3 PNEUMONIA", "threshold 0.500", "0.9"} <= set(shown)


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plots.roc_curves({"val": SCORED}, 0.0)
    assert dict(mpl.rcParams) == before


def test_evidence_is_opaque_where_strong_and_clear_where_there_is_none() -> None:
    evidence = np.array([[-5.0, 0.0], [1.0, 4.0]], np.float32)
    layer = np.asarray(plots.evidence_layer(evidence, (2, 2), scale=4.0))
    assert layer.shape == (2, 2, 4)
    assert layer[0, :, 3].tolist() == [0, 0]
    assert layer[1, :, 3].tolist() == [round(255 * OPACITY * 0.5), round(255 * OPACITY)]  # opacity grows as the root
    assert layer[1, 1, :3].tolist() == VIRIDIS[-1].tolist()


def test_a_picture_is_reduced_and_never_enlarged() -> None:
    assert plots.small_picture(np.zeros((300, 150, 1), np.uint8), 160).size == (80, 160)
    assert plots.small_picture(np.zeros((40, 60, 3), np.uint8), 160).size == (60, 40)


def test_a_data_uri_holds_the_picture() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    head, content = plots.data_uri(Image.fromarray(pixels)).split(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), pixels)
