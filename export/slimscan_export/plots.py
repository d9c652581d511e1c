"""The figures that only an export's report has, drawn as the training report's are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from slimscan_bench.scores import PairedScores
from slimscan_export.ladder import Ladder, Row
from slimscan_train.plots import ACCENT, MUTED, RULE, SERIES, svg_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGIN = 0.5
"""Logits left free around the outermost images."""


def logit_scatter(name: str, pair: PairedScores, labels: Sequence[str]) -> str:
    """The int8 logit of each image over its float logit, with both thresholds; SVG.

    Images that int8 newly gets wrong are circled. A model that lost nothing lies on the diagonal.

    Args:
        name: Of the images.
        pair: The float model and the int8 one.
        labels: The negative and the positive class.
    """
    of_float, of_int8 = pair.reference.logits, pair.candidate.logits
    ends = [float(end([of_float.min(), of_float.max(), of_int8.min(), of_int8.max()])) for end in (np.min, np.max)]
    span = (ends[0] - _MARGIN, ends[1] + _MARGIN)
    new_errors = {*pair.new_misses, *pair.new_false_alarms}
    circled = np.array([image in new_errors for image in pair.reference.images])

    def draw(axes: "Axes") -> None:
        axes.plot(span, span, color=RULE, linewidth=0.8)
        classes = ((~pair.reference.positive, labels[0], "o"), (pair.reference.positive, labels[1], "x"))
        for (of_class, label, marker), colour in zip(classes, SERIES, strict=False):
            points = (of_float[of_class], of_int8[of_class])
            axes.plot(*points, marker, color=colour, markersize=3, markeredgewidth=0.7, alpha=0.6, label=label)
        axes.axvline(pair.reference_threshold, color=MUTED, linewidth=0.9, linestyle="--", label="thresholds")
        axes.axhline(pair.candidate_threshold, color=MUTED, linewidth=0.9, linestyle="--")
        if circled.any():
            points = (of_float[circled], of_int8[circled])
            axes.plot(*points, "o", color=ACCENT, markersize=8, markerfacecolor="none", label="new error")
        axes.set(xlabel="float logit", ylabel="int8 logit", xlim=span, ylim=span)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return svg_figure(draw, f"int8 logit over float logit on {name}, with both thresholds")


def ladder_plots(ladder: Ladder) -> dict[str, str]:
    """File size against latency with the front, and AUROC on either set against file size; SVG by name.

    Rows are numbered from 1 in their order. Filled: PASS. Circled: the pick.
    """

    def draw_cost(axes: "Axes") -> None:
        front = [(row.latency_ms, row.size_bytes / 1024) for row in ladder.front]
        axes.plot(
            *zip(*front, strict=True), color=MUTED, linewidth=0.9, linestyle="--", label="none smaller and faster"
        )
        for number, row in enumerate(ladder.rows, 1):
            _mark(axes, ladder, row, number, (row.latency_ms, row.size_bytes / 1024), SERIES[0], "o")
        _plain_log(axes, "xy")
        axes.set(xlabel="latency, ms", ylabel="file, KiB")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))

    def draw_auroc(axes: "Axes") -> None:
        splits = [found.split for found in ladder.rows[0].answers]
        for split, colour, marker in zip(splits, SERIES, "os^", strict=False):
            axes.plot([], [], marker, color=colour, label=split)
            for number, row in enumerate(ladder.rows, 1):
                for found in row.answers:
                    if found.split == split and found.auroc is not None:
                        _mark(axes, ladder, row, number, (row.size_bytes / 1024, found.auroc), colour, marker)
        _plain_log(axes, "x")
        axes.set(xlabel="file, KiB", ylabel="AUROC")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return {
        "cost": svg_figure(draw_cost, "File size against latency of every row"),
        "auroc": svg_figure(draw_auroc, "AUROC against file size of every row"),
    }


def _mark(
    axes: "Axes", ladder: Ladder, row: Row, number: int, at: tuple[float, float], colour: str, marker: str
) -> None:
    """One numbered row."""
    face = colour if row.verdict == "PASS" else "none"
    axes.plot(*at, marker, color=colour, markersize=5, markerfacecolor=face, clip_on=False)
    if row is ladder.pick:
        axes.plot(*at, "o", color=ACCENT, markersize=11, markerfacecolor="none", clip_on=False)
    axes.annotate(str(number), at, xytext=(5, 4), textcoords="offset points", fontsize=8)


def _plain_log(axes: "Axes", which: str) -> None:
    """Logarithmic axes with ticks as people write them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for name in which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        (axes.set_xscale if name == "x" else axes.set_yscale)("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
