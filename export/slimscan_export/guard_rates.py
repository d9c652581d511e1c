"""How often a bundle's guard is wrong: `python -m slimscan_export.guard_rates RUN BUNDLE [--xrays DIR]`.

Held-out X-rays of the run, as they are and under every named shift, should be accepted, and so should the files in DIR;
the same X-rays laid otherwise, their negatives, and pictures that are no X-rays should not. Nothing that a guard is
fitted or was designed on is among them.
"""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.bundle import read_bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import EXIT_DONE, InputError, SlimscanError
from slimscan_edge.files import image_files
from slimscan_edge.preprocess import ImageSource
from slimscan_export.not_xrays import draw_pictures
from slimscan_train.run import Run, read_run
from slimscan_train.shifts import SHIFTS
from slimscan_train.training import VALIDATION

Pixels = NDArray[np.uint8]

LAID_OTHERWISE: dict[str, Callable[[Pixels], Pixels]] = {
    "upside down": lambda pixels: np.rot90(pixels, 2),
    "on its right side": lambda pixels: np.rot90(pixels, 3),
    "on its left side": lambda pixels: np.rot90(pixels, 1),
    "negative": lambda pixels: 255 - pixels,
}
"""What is done to an X-ray's decoded pixels that the guard should notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a guard said of pictures of one kind: for each reason how many, "" for those that it accepted."""

    kind: str
    reasons: Counter[str]

    @property
    def rejected(self) -> float:
        """Share that it rejected, 0 to 1."""
        return 1 - self.reasons[""] / self.reasons.total()


def xray_rates(run: Run, classifier: Classifier) -> Iterator[Rate]:
    """Held-out X-rays, which should be accepted: as they are, and `val` under every shift."""
    for split, shift in [*((split, "") for split in VALIDATION), *((VALIDATION[0], shift) for shift in SHIFTS)]:
        if images := run.split.select(split):
            yield _rate(f"{split} {shift}".strip(), classifier, run.pixels(images, shift))


def laid_otherwise_rates(run: Run, classifier: Classifier) -> Iterator[Rate]:
    """The X-rays of `val` as they should not come."""
    pixels = run.pixels(run.split.select(VALIDATION[0]))
    for kind, change in LAID_OTHERWISE.items():
        yield _rate(kind, classifier, (np.ascontiguousarray(change(one)) for one in pixels))


def picture_rates(classifier: Classifier, *, per_family: int) -> Iterator[Rate]:
    """Pictures that are no X-rays, family by family; none of them was looked at when the guard was designed."""
    drawn = draw_pictures("reporting", per_family=per_family)
    for family, pictures in itertools.groupby(drawn, key=lambda pair: pair[0]):
        yield _rate(family, classifier, (picture for _, picture in pictures))


def _rate(kind: str, classifier: Classifier, pictures: Iterable[ImageSource]) -> Rate:
    return Rate(kind=kind, reasons=Counter(classifier.predict(picture).reason for picture in pictures))


def main() -> int:
    """Print a line for each kind of picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the run that the bundle was exported from")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--xrays", type=Path, metavar="DIR", help="files of X-rays, to be read as they are")
    parser.add_argument("--per-family", type=int, default=60, metavar="N", help="pictures of each family (60)")
    arguments = parser.parse_args()
    try:
        for line in _lines(arguments):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except SlimscanError as exc:
        sys.stderr.write(f"{exc}\n")
        return exc.exit_code
    return EXIT_DONE


def _lines(arguments: argparse.Namespace) -> Iterator[str]:
    run = read_run(arguments.run)
    classifier = Classifier(read_bundle(arguments.bundle, allow_failed=True), threads=1)
    if classifier.guard is None:
        raise InputError(f"{arguments.bundle} carries no guard; export it anew")
    yield "X-rays rejected:"
    yield from map(_line, xray_rates(run, classifier))
    if arguments.xrays:
        yield _line(_rate("files", classifier, image_files([arguments.xrays])))
    yield "X-rays laid otherwise, rejected:"
    yield from map(_line, laid_otherwise_rates(run, classifier))
    yield "pictures that are no X-rays, rejected:"
    everything: Counter[str] = Counter()
    for rate in picture_rates(classifier, per_family=arguments.per_family):
        everything += rate.reasons
        yield _line(rate)
    yield _line(Rate(kind="all of these", reasons=everything))


def _line(rate: Rate) -> str:
    total, accepted = rate.reasons.total(), rate.reasons[""]
    commonest = "; ".join(f"{count} {reason}" for reason, count in rate.reasons.most_common() if reason)
    return f"{rate.kind:20} {total - accepted:4} of {total:4} {rate.rejected:6.1%}  {commonest}"


if __name__ == "__main__":
    sys.exit(main())
