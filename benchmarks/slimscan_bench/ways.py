"""Other ways from an image file to the same model's probability, to be measured in turn with ours.

Each is a short script as one would write it, with the checks left out. They run on the interpreter that ours has
loaded, so that no way has warmer weights than another. `plain` is right: it normalises as the model was trained,
though in full size and in float. `floor` is fast: it leaves the normalisation of the intensity out, so its answers
may be wrong.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import ImageError
from slimscan_edge.preprocess import PERCENTILES, PreprocessSpec

Way: TypeAlias = Callable[[Path], float]
"""From an image file to the calibrated probability of the positive label."""


def plain(classifier: Classifier) -> Way:
    """The usual way: decode in full, convert, resize, normalise in float, quantise, invoke, sigmoid."""
    spec, pixels = classifier.manifest.preprocess, classifier.interpreter.input

    def answer(path: Path) -> float:
        with _open(path) as image:
            fitted = _fitted(image.convert(_mode(spec)), spec)
        levels = np.asarray(fitted, dtype=np.float32)
        if spec.intensity == "percentile":
            low, high = np.percentile(levels, PERCENTILES)
            if high > low:
                levels = np.clip((levels - low) / (high - low) * 255.0, 0.0, 255.0)
        normalised = (levels - 128.0) / 127.5  # as slimscan_train.model says
        quantised = np.clip(np.round(normalised / pixels.scale + pixels.zero_point), 0, 255).astype(np.uint8)
        return _probability(classifier, quantised)

    return answer


def floor(classifier: Classifier) -> Way:
    """The least that can be: decode reduced, resize, invoke; nothing checked, nothing normalised."""
    spec = classifier.manifest.preprocess
    mode, size = _mode(spec), (spec.width * spec.jpeg_oversample, spec.height * spec.jpeg_oversample)

    def answer(path: Path) -> float:
        with _open(path) as image:
            if spec.jpeg_oversample:
                image.draft(mode, size)
            fitted = _fitted(image if image.mode == mode else image.convert(mode), spec)
        return _probability(classifier, np.asarray(fitted, dtype=np.uint8))

    return answer


WAYS: Mapping[str, Callable[[Classifier], Way]] = {"plain": plain, "floor": floor}


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise ImageError(f"{path} is no picture that plain and floor read ({exc}); leave it out, or --against") from exc


def _mode(spec: PreprocessSpec) -> str:
    return "L" if spec.channels == 1 else "RGB"


def _fitted(image: Image.Image, spec: PreprocessSpec) -> Image.Image:
    resampling, size = Image.Resampling[spec.resize_filter.upper()], (spec.width, spec.height)
    if spec.fit == "stretch":
        return image.resize(size, resampling)
    return (ImageOps.pad if spec.fit == "letterbox" else ImageOps.fit)(image, size, resampling)


def _probability(classifier: Classifier, pixels: NDArray[np.uint8]) -> float:
    manifest, interpreter = classifier.manifest, classifier.interpreter
    logits_at = manifest.output_roles.index("logits")
    tensors = interpreter.invoke(pixels.reshape(interpreter.input.shape))
    logit = float(interpreter.outputs[logits_at].real_values(tensors[logits_at])[0, 0])
    return manifest.operating_point.probability(logit)
