"""Does a bundle go by what lies beside the lungs? `python benchmarks/beside_the_lungs.py RUN BUNDLE... [--other DIR]`.

Scores bundles on the validation patients of a run that had outlines of the lungs: as they are, in other surroundings,
in cut and widened frames, and with markers pasted in or blacked out; and, if asked, on another hospital's X-rays (a
folder with `images.csv`: path, label, reader, patient). Everything is judged at each bundle's own locked threshold.
Prints a table; `--out` writes the figures as JSON.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from slimscan_bench.models import tflite_logits
from slimscan_edge.bundle import Bundle, read_bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import ImageError
from slimscan_edge.preprocess import decode, fit_to_input
from slimscan_train.lungs.surroundings import SWAPS
from slimscan_train.metrics import figures
from slimscan_train.run import Run, read_run
from slimscan_train.thresholds import threshold_at_sensitivity

Change = Callable[[Image.Image], Image.Image]
SENSITIVITY = 0.98


def _cut(left: float, top: float, right: float, bottom: float) -> Change:
    """Without these shares of the sides; a negative share widens the frame by black."""
    return lambda image: image.crop(
        (
            round(left * image.width),
            round(top * image.height),
            round((1 - right) * image.width),
            round((1 - bottom) * image.height),
        )
    )


FRAMES = {
    "cut above": _cut(0, 0.1, 0, 0),
    "cut below": _cut(0, 0, 0, 0.1),
    "cut above and below": _cut(0, 0.1, 0, 0.1),
    "cut at the sides": _cut(0.085, 0, 0.085, 0),
    "zoomed in": _cut(0.075, 0.075, 0.075, 0.075),
    "zoomed out": _cut(-0.09, -0.09, -0.09, -0.09),
}


def _letters(image: Image.Image) -> Image.Image:
    """A large letter in one upper corner, and two lines of print in the lower one across."""
    marked = image.convert("L")
    pen, side = ImageDraw.Draw(marked), marked.height
    pen.text((0.03 * marked.width, 0.03 * side), "R", fill=240, font=ImageFont.load_default(0.14 * side))
    small = ImageFont.load_default(0.05 * side)
    pen.text((0.6 * marked.width, 0.88 * side), "AP PORTABLE\n12:40 SITTING", fill=220, font=small)
    return marked


def _blacked(image: Image.Image) -> Image.Image:
    """All four corners black, an eighth of the width by a seventh of the height."""
    blacked = image.convert("L")
    wide, high = blacked.width // 8, blacked.height // 7
    for left in (0, blacked.width - wide):
        for top in (0, blacked.height - high):
            blacked.paste(0, (left, top, left + wide, top + high))
    return blacked


MARKERS = {"letter and print pasted in": _letters, "corners blacked out": _blacked}


def main() -> int:
    """Score, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--other", type=Path, metavar="DIR", help="another hospital's X-rays")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the figures as JSON")
    arguments = parser.parse_args()
    run, found = read_run(arguments.run), {}
    for path in arguments.bundles:
        bundle = read_bundle(path)
        found[bundle.manifest.bundle_id] = dict(_rows(run, bundle))
        if arguments.other:
            found[bundle.manifest.bundle_id] |= dict(_other_hospital(bundle, arguments.other))
    for name, rows in found.items():
        print(f"\n{name}")
        for what, row in rows.items():
            print(f"  {what:44}" + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _rows(run: Run, bundle: Bundle) -> Iterator[tuple[str, dict[str, float]]]:
    logits = tflite_logits(bundle.model)
    threshold = bundle.manifest.operating_point.logit_threshold
    for split in ("val", "val_shift"):
        images = run.split.select(split)
        positive = np.array([run.split.is_positive(image) for image in images])
        as_it_is = logits(run.pixels(images))[:, 0]
        swapped = np.stack([logits(run.pixels(images, swap))[:, 0] for swap in SWAPS])
        yield split, _figures(as_it_is, positive, threshold)
        everyone = np.tile(positive, len(SWAPS))
        follow = ((swapped >= threshold) == (as_it_is >= threshold)).mean()
        yield f"{split}, other surroundings", {**_figures(swapped.ravel(), everyone, threshold), "same": float(follow)}
    images, spec = run.split.select("val"), run.config.preprocess
    positive = np.array([run.split.is_positive(image) for image in images])
    for name, change in {**FRAMES, **MARKERS}.items():
        pictures = [change(decode(run.data_root / image.path, spec)) for image in images]
        pixels = np.stack([fit_to_input(picture, spec) for picture in pictures])
        yield f"val, {name}", _figures(logits(pixels)[:, 0], positive, threshold)


def _figures(logits: NDArray[np.float64], positive: NDArray[np.bool_], threshold: float) -> dict[str, float]:
    at = figures(logits, positive, threshold)
    possible = figures(logits, positive, threshold_at_sensitivity(logits, positive, SENSITIVITY))
    return {
        "AUROC": at.auroc,
        "sensitivity": at.sensitivity,
        "specificity": at.specificity,
        "specificity at sensitivity 0.98": possible.specificity,
    }


def _other_hospital(bundle: Bundle, folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """What the whole classifier, guard included, says of another hospital's X-rays."""
    with (folder / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classifier = Classifier(bundle)
    answers = [_answer(classifier, folder / row["path"]) for row in rows]
    for of, truth in (("readers", _reader), ("mined labels", lambda row: row["label"] != "NORMAL")):
        known = [(truth(row), answer) for row, answer in zip(rows, answers, strict=True) if truth(row) is not None]
        yield f"another hospital, {of}", _outside(known, bundle.manifest.operating_point.logit_threshold)


def _reader(row: dict[str, str]) -> bool | None:
    return {"normal": False, "opacity": True}.get(row["reader"].lower())


def _answer(classifier: Classifier, path: Path) -> float:
    try:
        finding = classifier.predict(path)
    except ImageError:
        return float("nan")
    return finding.logit


def _outside(known: Sequence[tuple[bool | None, float]], threshold: float) -> dict[str, float]:
    ill = np.array([bool(truth) for truth, _ in known])
    logits = np.array([logit for _, logit in known])
    answered = np.isfinite(logits)
    called = answered & (logits >= threshold)
    return {
        "rejected": float(np.mean(~answered)),
        "AUROC of the answered": figures(logits[answered], ill[answered], threshold).auroc,
        "healthy called ill": float(called[~ill].mean()),
        "ill called ill": float(called[ill].mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
