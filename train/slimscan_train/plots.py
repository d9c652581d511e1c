"""The figures of a report, from arrays: curves as inline SVG, pictures as data URIs.

Colours are CSS variables of `templates/base.html`, so that one figure serves a light page, a dark page and paper; each
has a fallback of its own. Series differ by line style as well, for printers and eyes without colour.
"""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.overlay import OPACITY, colours
from slimscan_train.intervals import Estimate, proportion
from slimscan_train.reliability import ReliabilityBin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, RULE, ACCENT = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050505", "#060606", "#070707")
"""Stand-ins that matplotlib draws with; each becomes a CSS variable in the finished SVG."""
_CSS = {
    INK: "var(--ink, #1b1f24)",
    MUTED: "var(--muted, #5b6672)",
    RULE: "var(--rule, #d5dae0)",
    ACCENT: "var(--alert, #b3261e)",
    SERIES[0]: "var(--series-1, #0b5fa5)",
    SERIES[1]: "var(--series-2, #c05a00)",
    SERIES[2]: "var(--series-3, #3d7a3a)",
}
_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_SIZE = (4.6, 3.3)
"""Inches of 72 units: 331 units wide, so that text of 9 units is as large on a phone's page."""

PROBABILITY_TICKS = (0.0001, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.9999)


class ScoredSet(NamedTuple):
    """Labels `[N]` and scores `[N]` of one set of images."""

    positive: NDArray[np.bool_]
    scores: NDArray[np.float64]


class Reliability(NamedTuple):
    """One curve of a reliability diagram, with its name in the legend."""

    label: str
    bins: Sequence[ReliabilityBin]


def epoch_curves(epochs: Sequence[int], curves: Mapping[str, Sequence[float]], *, kept: int, measure: str) -> str:
    """A measure over the epochs, one line a curve, the kept epoch marked; SVG."""

    def draw(axes: "Axes") -> None:
        for (name, values), colour, style in zip(curves.items(), SERIES, _STYLES, strict=False):
            axes.plot(epochs, values, marker=".", color=colour, linestyle=style, label=name)
        axes.axvline(kept, color=MUTED, linewidth=0.8, linestyle=":", label="kept epoch")
        axes.locator_params(axis="x", integer=True)
        axes.set(xlabel="epoch", ylabel=measure)
        axes.legend()

    return svg_figure(draw, f"{measure} over the epochs: {', '.join(curves)}")


def roc_curves(sets: Mapping[str, ScoredSet], threshold: float) -> str:
    """Receiver operating characteristics, the point at the threshold marked on each; SVG."""
    from sklearn.metrics import roc_curve

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=0.8)
        for (name, scored), colour, style in zip(sets.items(), SERIES, _STYLES, strict=False):
            false_alarms, found, _ = roc_curve(scored.positive, scored.scores)
            axes.plot(false_alarms, found, color=colour, linestyle=style, label=name)
            called = scored.scores >= threshold
            at = called[~scored.positive].mean(), called[scored.positive].mean()
            axes.plot(*at, "o", color=colour, markersize=6, markerfacecolor="none", clip_on=False)
        axes.set(xlabel="1 − specificity", ylabel="sensitivity", **_UNIT_SQUARE)
        axes.legend(loc="lower right", title="○ at the locked threshold")

    return svg_figure(draw, f"ROC curves of {', '.join(sets)}")


def precision_recall_curves(sets: Mapping[str, ScoredSet], threshold: float) -> str:
    """Precision over recall, the point at the threshold marked on each, the share of positives as its floor; SVG."""
    from sklearn.metrics import precision_recall_curve

    def draw(axes: "Axes") -> None:
        for (name, scored), colour, style in zip(sets.items(), SERIES, _STYLES, strict=False):
            precision, recall, _ = precision_recall_curve(scored.positive, scored.scores)
            axes.axhline(scored.positive.mean(), color=colour, linewidth=0.9, linestyle=":")
            axes.plot(recall, precision, color=colour, linestyle=style, label=name)
            called = scored.scores >= threshold
            if called.any():
                at = called[scored.positive].mean(), scored.positive[called].mean()
                axes.plot(*at, "o", color=colour, markersize=6, markerfacecolor="none", clip_on=False)
        axes.set(xlabel="recall (sensitivity)", ylabel="precision", **_UNIT_SQUARE)
        axes.legend(loc="lower left", title="○ at the locked threshold")

    return svg_figure(draw, f"Precision-recall curves of {', '.join(sets)}")


def reliability_diagram(name: str, before: Reliability, after: Reliability) -> str:
    """Observed share of positives over mean probability, before and after a change to the model; SVG.

    Upright lines are exact 95 % intervals of the share, after the change.
    """

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=0.8)
        for drawn, colour, style, marker in ((before, SERIES[1], "--", "s"), (after, SERIES[0], "-", "o")):
            x, y = [part.probability for part in drawn.bins], [part.observed for part in drawn.bins]
            axes.plot(x, y, marker, color=colour, linestyle=style, markersize=4, label=drawn.label, clip_on=False)
        for part in after.bins:
            if interval := proportion(part.positives, part.images):
                axes.plot([part.probability] * 2, [interval.low, interval.high], color=SERIES[0], linewidth=0.7)
        axes.set(xlabel="mean probability of the bin", ylabel="observed share of positives", **_UNIT_SQUARE)
        axes.legend(loc="upper left")

    return svg_figure(draw, f"Reliability diagram of {name}")


def score_histogram(name: str, scored: ScoredSet, labels: tuple[str, str], threshold: float) -> str:
    """How many images of either class score what; SVG.

    Args:
        name: Of the set.
        scored: Labels, and calibrated logits.
        labels: The negative and the positive class.
        threshold: A calibrated logit.
    """
    from scipy.special import expit, logit

    def draw(axes: "Axes") -> None:
        low, high = (float(end([*scored.scores, threshold])) for end in (min, max))
        edges = np.linspace(low - 0.5, high + 0.5, 41).tolist()
        for of_class, label, colour, filled in (
            (~scored.positive, labels[0], SERIES[0], True),
            (scored.positive, labels[1], SERIES[1], False),
        ):
            scores = scored.scores[of_class]
            axes.hist(
                scores,
                edges,
                histtype="stepfilled" if filled else "step",
                color=colour,
                alpha=0.45 if filled else 1.0,
                label=f"{len(scores)} {label}",
            )
        axes.axvline(threshold, color=ACCENT, linewidth=1.2, linestyle="--", label=f"threshold {expit(threshold):.3f}")
        ticks = [tick for tick in PROBABILITY_TICKS if edges[0] <= logit(tick) <= edges[-1]]
        axes.set_xticks([float(logit(tick)) for tick in ticks], [f"{tick:g}" for tick in ticks])
        axes.set(xlabel="probability (logit scale)", ylabel="images")
        axes.legend()

    return svg_figure(draw, f"Scores of {name} by class, with the threshold")


def forest_plot(measure: str, rows: Mapping[str, Estimate], *, marked: str | None, line: float, line_name: str) -> str:
    """Estimates with their intervals under each other, against one vertical line; SVG.

    Args:
        measure: What is estimated, for the axis.
        rows: Name to estimate, top to bottom.
        marked: The row drawn in the accent colour.
        line: Where the vertical line stands.
        line_name: What it is.
    """

    def draw(axes: "Axes") -> None:
        axes.axvline(line, color=MUTED, linewidth=0.8, linestyle="--", label=line_name)
        for place, (name, found) in enumerate(rows.items()):
            colour = ACCENT if name == marked else SERIES[0]
            axes.plot([found.low, found.high], [place, place], color=colour, linewidth=1.2, solid_capstyle="butt")
            axes.plot(found.value, place, "D" if name == marked else "s", color=colour, markersize=4, clip_on=False)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(min([line, *(found.low for found in rows.values())]) - 0.02, 1.0)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(measure)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return svg_figure(draw, f"{measure} with intervals: {', '.join(rows)}", height=0.7 + 0.19 * len(rows))


def svg_figure(draw: Callable[["Axes"], None], description: str, height: float = _SIZE[1]) -> str:
    """Draw on fresh axes.

    Args:
        draw: Draws, in the colours of this module.
        description: For those who cannot see it.
        height: Inches of 72 units; the width is always the same.

    Returns:
        The SVG element, to stand inside a page: its texts are escaped.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": description}):
        figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(_METADATA))
    return _inline(file.getvalue(), description)


def plain_log(axes: "Axes", which: str) -> None:
    """Make the axes named in `which` ("x", "y" or "xy") logarithmic, with ticks as people write them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for name in which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        (axes.set_xscale if name == "x" else axes.set_yscale)("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def small_picture(pixels: NDArray[np.uint8], longest: int) -> Image.Image:
    """A picture of uint8 `[H, W, C]`, reduced to a longest side in pixels when it is larger."""
    picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return picture


def evidence_layer(evidence: NDArray[np.float32], size: tuple[int, int], scale: float) -> Image.Image:
    """The evidence for the positive label as a see-through layer, in the colours of the device's overlay.

    Args:
        evidence: float32 `[h, w]`, logits.
        size: Width and height of the picture below, pixels.
        scale: Evidence that is drawn in full colour, above 0.

    Returns:
        An RGBA picture; clear where nothing speaks for the positive label.
    """
    positive = Image.fromarray(np.clip(evidence / scale, 0.0, 1.0).astype(np.float32))
    strength = np.clip(np.asarray(positive.resize(size, Image.Resampling.BICUBIC)), 0.0, 1.0)
    opacity = 255.0 * OPACITY * np.sqrt(strength)
    layer = np.concatenate([colours(strength), opacity[:, :, np.newaxis]], axis=-1)
    return Image.fromarray(np.rint(layer).astype(np.uint8))


def data_uri(picture: Image.Image) -> str:
    """A picture as a PNG inside an address, for a page that loads nothing."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


_UNIT_SQUARE: dict[str, Any] = {"xlim": (0.0, 1.0), "ylim": (0.0, 1.02)}


_METADATA = ("Creator", "Date", "Format", "Type")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.6,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def _inline(svg: str, description: str) -> str:
    from markupsafe import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows them; a page without any address is easy to check
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # the same in every figure, and referred to by none
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)  # the page's
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # would hold for the whole page
    for stand_in, variable in _CSS.items():
        svg = svg.replace(stand_in, variable)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
