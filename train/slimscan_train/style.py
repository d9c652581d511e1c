"""How much a picture's style, its sharpness, tone and margins, tells of its class, and draws that take it away.

Where healthy and ill came from other machines or wards, a model learns the machine. Each image is therefore drawn as
often as one over the probability that its style gives its class: inverse propensity weighting (Rosenbaum & Rubin
1983, Biometrika 70:41), which leaves among the images drawn no style that goes with a class. So what is rare, the
healthy chest that was taken as ill ones are, is seen most.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_PROPENSITY = 0.1
"""Below, a propensity is taken for this: no image is drawn more than ten times as often as another of its class."""

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_SCALES = 3
_MARGIN = 0.1
_DARK = 10


def measure_style(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What is measured of each picture, and should say nothing of a disease, or little.

    The logarithm of the mean difference between neighbours in a column, in a row, and of their ratio; at full, half
    and quarter size the logarithm of the standard deviation and of the median size of the Laplacian, over the standard
    deviation of grey; seven percentiles, mean and standard deviation of grey; the mean grey of the tenth at the top,
    bottom, left and right; and the share of pixels that are nearly black.

    Args:
        pixels: uint8 `[N, H, W, C]`, of 16 rows and columns at least.

    Returns:
        float64 `[N, 23]`.
    """
    return np.array([_measure(picture.mean(axis=2)) for picture in pixels])


def style_frequencies(pixels: NDArray[np.uint8], positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How often each image is to be drawn, against others of its class, so that style tells nothing of the class.

    Args:
        pixels: As for `measure_style`.
        positive: Labels `[N]`, of both classes.

    Returns:
        float64 `[N]`, 1 to `1 / LEAST_PROPENSITY`.
    """
    measured = measure_style(pixels)
    propensity = _regression().fit(measured, positive).predict_proba(measured)[:, 1]
    frequencies: NDArray[np.float64] = 1.0 / np.maximum(
        np.where(positive, propensity, 1.0 - propensity), LEAST_PROPENSITY
    )
    return frequencies


def class_by_style(
    style: NDArray[np.float64], positive: NDArray[np.bool_], patients: NDArray[np.str_]
) -> NDArray[np.float64]:
    """The probability of the positive class that style alone gives each image, learnt from other patients' images.

    Args:
        style: From `measure_style`.
        positive: Labels `[N]`, of both classes.
        patients: Whose each image is, `[N]`; many more of each class than there are folds.

    Returns:
        float64 `[N]`, 0 to 1; both classes have the same weight.
    """
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    folds = StratifiedGroupKFold(5)
    found = cross_val_predict(_regression(), style, positive, groups=patients, cv=folds, method="predict_proba")
    return np.asarray(found[:, 1], np.float64)


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))


def _measure(grey: NDArray[np.float64]) -> list[float]:
    down, across = np.abs(np.diff(grey, axis=0)).mean() + 1e-3, np.abs(np.diff(grey, axis=1)).mean() + 1e-3
    contrast = float(grey.std()) + 1.0
    found = [np.log(down), np.log(across), np.log(down / across)]
    smaller = grey
    for _ in range(_SCALES):
        inner = smaller[1:-1, 1:-1]
        around = smaller[:-2, 1:-1] + smaller[2:, 1:-1] + smaller[1:-1, :-2] + smaller[1:-1, 2:]
        laplacian = 4.0 * inner - around
        found += [np.log(laplacian.std() / contrast + 1e-4), np.log(np.median(np.abs(laplacian)) / contrast + 1e-4)]
        rows, columns = smaller.shape[0] // 2, smaller.shape[1] // 2
        smaller = smaller[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    top, side = max(1, int(_MARGIN * grey.shape[0])), max(1, int(_MARGIN * grey.shape[1]))
    margins = [grey[:top].mean(), grey[-top:].mean(), grey[:, :side].mean(), grey[:, -side:].mean()]
    tones = [*np.percentile(grey, _PERCENTILES), grey.mean(), contrast]
    return [float(value) for value in (*found, *tones, *margins, (grey < _DARK).mean())]
