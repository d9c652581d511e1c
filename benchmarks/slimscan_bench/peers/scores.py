"""The score of a bundle's twin for MediaPipe Tasks, read as the bundle's logit."""

import math

from slimscan_edge.operating_point import OperatingPoint

_NEAREST = 1e-7
"""Scores are float32 from a softmax: nearer to 0 or 1 they say no more."""


def logit_of_score(score: float, point: OperatingPoint) -> float:
    """The logit behind a twin's score.

    A twin's top label changes at 0.5 and a bundle's decision at its threshold, so with s the score, p the bundle's
    probability and t its threshold `logit(s) = logit(p) - logit(t)`.

    Args:
        score: Of the positive label, 0 to 1.
        point: The bundle's operating point.
    """
    within = min(max(score, _NEAREST), 1.0 - _NEAREST)
    return point.logit_threshold + point.temperature * math.log(within / (1.0 - within))
