"""The figures that only an export's report has, drawn as the training report's are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.scores import PairedScores
from slimscan_export.ladder import Ladder
from slimscan_train.plots import ACCENT, MUTED, RULE, SERIES, plain_log, svg_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGIN = 0.5
"""Logits left free around the outermost images."""

_APART = 12.0
"""Dots on the screen; numbers of rows nearer to each other would overlap."""


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
    """File size against latency with the front, and AUROC on each set against file size; SVG by name.

    Rows are numbered from 1 in their order. Filled: PASS. Circled: the pick.
    """
    splits = [found.split for found in ladder.rows[0].answers]
    sizes = [row.size_bytes / 1024 for row in ladder.rows]

    def draw_cost(axes: "Axes") -> None:
        if front := ladder.front:
            x, y = [row.latency_ms for row in front], [row.size_bytes / 1024 for row in front]
            axes.plot(
                x, y, color=MUTED, linewidth=0.9, linestyle="--", label="of those that pass, none is cheaper in both"
            )
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
        plain_log(axes, "xy")
        _mark_rows(axes, ladder, [(row.latency_ms, size) for row, size in zip(ladder.rows, sizes, strict=True)])
        axes.set(xlabel="latency, ms", ylabel="file, KiB")

    def draw_auroc(axes: "Axes") -> None:
        plain_log(axes, "x")
        for index, (split, colour, marker) in enumerate(zip(splits, SERIES, "os^", strict=False)):
            axes.plot([], [], marker, color=colour, label=split)
            areas = [row.answers[index].auroc for row in ladder.rows]
            _mark_rows(axes, ladder, list(zip(sizes, areas, strict=True)), colour, marker)
        axes.set(xlabel="file, KiB", ylabel="AUROC")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)

    return {
        "cost": svg_figure(draw_cost, "File size against latency of every row"),
        "auroc": svg_figure(draw_auroc, "AUROC against file size of every row"),
    }


def _mark_rows(
    axes: "Axes",
    ladder: Ladder,
    places: Sequence[tuple[float, float | None]],
    colour: str = SERIES[0],
    marker: str = "o",
) -> None:
    """Every row where it belongs, numbered; rows whose numbers would lie over each other share them."""
    drawn = {n: (x, y) for n, (x, y) in enumerate(places, 1) if y is not None}
    for number, at in drawn.items():
        row = ladder.rows[number - 1]
        face = colour if row.verdict == "PASS" else "none"
        axes.plot(*at, marker, color=colour, markersize=5, markerfacecolor=face, clip_on=False)
        if row is ladder.pick:
            axes.plot(*at, "o", color=ACCENT, markersize=11, markerfacecolor="none", clip_on=False)
    axes.margins(0.08)
    groups: list[tuple[NDArray[np.float64], list[int]]] = []
    for number, at in drawn.items():
        there = axes.transData.transform(at)
        near = next((members for place, members in groups if np.abs(place - there).max() < _APART), None)
        if near is None:
            groups.append((there, [number]))
        else:
            near.append(number)
    for _, members in groups:
        axes.annotate(_in_ranges(members), drawn[members[0]], xytext=(6, 5), textcoords="offset points", fontsize=8)


def _in_ranges(numbers: Sequence[int]) -> str:
    """Rising numbers as people write them: 3, 5–8."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
