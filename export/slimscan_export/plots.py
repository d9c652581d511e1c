"""The figures that only an export's report has, drawn as the training report's are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from slimscan_bench.scores import PairedScores
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
