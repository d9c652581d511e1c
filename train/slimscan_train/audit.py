"""What is wrong with a data set before a model learns from it, and by what a model could cheat.

Each file is decoded once, by the preprocessing of training and device; every check then works on plain records.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.cores import usable_cores
from slimscan_edge.errors import ImageError
from slimscan_edge.files import Unreadable
from slimscan_edge.preprocess import PERCENTILES, PreprocessSpec, decode, read_header
from slimscan_train.dataset import Dataset, LabelledImage
from slimscan_train.split import UNREADABLE
from slimscan_train.style import class_by_style, measure_style

THUMBNAIL_SIDE = 32
STYLE = "style (sharpness, tone and margins together)"
STYLE_SIDE = 224
LEAST_FOR_STYLE = 100
"""Patients of each class from which on it is asked whether style, of so many measures, tells the class."""
NEAR_DUPLICATE_CORRELATION = 0.99
"""Pearson's correlation of two pictures' thumbnails from which they are called near-duplicates. A picture saved again,
at another size, brightness or contrast, keeps 0.997 and more; among the 13.6 million pairs of the 5,216 paediatric
X-rays of Kermany et al. (2018), no two different pictures reach 0.98. A copy that was cropped, turned, mirrored or put
through a steep tone curve is not found."""

SHORTCUT_AUROC = 0.2
"""How far from 0.5 the AUROC of a property alone lies when it goes with the class."""
CHANCE = 0.05
"""The property must also go with the class by more than chance (a p-value below this), lest few images tell much."""

_BLOCK = 512
"""Thumbnails compared with all others at a time: bounds the memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """What one readable file is like.

    Attributes:
        image: Its record in the data set.
        width: Columns of the picture in the file.
        height: Rows of the picture in the file.
        mode: Pillow's name of the colour mode in the file ("L", "RGB").
        file_format: "JPEG", "PNG", ...
        size_bytes: Of the file.
        mean: Mean grey, 0 to 255.
        low: 1st percentile of grey, 0 to 255.
        high: 99th percentile of grey, 0 to 255.
        contrast: Standard deviation of grey.
        squeeze: Mean difference in grey between neighbours in a row over that between neighbours in a column. A picture
            that was brought to a square from a wider frame has more, even where the file no longer tells of the frame.
        style: From `slimscan_train.style.measure_style`, at `STYLE_SIDE` rows and columns, float64 `[23]`.
        thumbnail: Grey of a 32x32 thumbnail, float32 `[1024]`, of mean 0 and length 1; zeros for a flat picture.
    """

    image: LabelledImage
    width: int
    height: int
    mode: str
    file_format: str
    size_bytes: int
    mean: float
    low: float
    high: float
    contrast: float
    squeeze: float
    style: NDArray[np.float64]
    thumbnail: NDArray[np.float32]


PROPERTIES: dict[str, Callable[[Observation], float]] = {
    "width": lambda seen: seen.width,
    "height": lambda seen: seen.height,
    "aspect ratio": lambda seen: seen.width / seen.height,
    "file bytes per pixel": lambda seen: seen.size_bytes / (seen.width * seen.height),
    "mean grey": lambda seen: seen.mean,
    "1st percentile of grey": lambda seen: seen.low,
    "99th percentile of grey": lambda seen: seen.high,
    "contrast": lambda seen: seen.contrast,
    "detail across over down": lambda seen: seen.squeeze,
}
"""Measures that should say nothing of a disease, or little."""

CATEGORIES: dict[str, Callable[[Observation], str]] = {
    "colour mode": lambda seen: seen.mode,
    "file format": lambda seen: seen.file_format,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many images and patients one series of one class has in one split of the data set ("" when it has none)."""

    split: str
    label: str
    series: str
    images: int
    patients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What two splits share and should not.

    Attributes:
        first: Name of one split.
        second: Name of the other.
        patients: Who is in both.
        copies: Images of the second whose very bytes are also in the first.
    """

    first: str
    second: str
    patients: tuple[str, ...]
    copies: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """How one property of the files, by itself, goes with the class.

    Attributes:
        name: The property, or a category's value ("colour mode RGB").
        is_category: Whether it is such a value, which an image has or has not.
        auroc: Area under the ROC curve of the property as a score for the positive class; 0.5 tells nothing.
        p_value: Of so strong an association by chance: Mann & Whitney's test, for a category Fisher's exact one.
        negative: Median of the negative class; for a category the share of its images that have the value.
        positive: The same of the positive class.
    """

    name: str
    is_category: bool
    auroc: float
    p_value: float
    negative: float
    positive: float

    @property
    def is_shortcut(self) -> bool:
        """Whether a model could tell the class by it: from any image, or from the few that alone have the value."""
        one_sided = self.is_category and min(self.negative, self.positive) == 0.0
        return self.p_value < CHANCE and (one_sided or abs(self.auroc - 0.5) > SHORTCUT_AUROC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """All that was found. Groups are of images, in the order of the data set.

    Attributes:
        counts: Images and patients by split, class and series.
        unreadable: Files that cannot be decoded, each with the reason.
        exact_copies: Groups of files with the same bytes.
        label_conflicts: Those groups that have more than one label.
        near_duplicates: Groups of different files that show the same picture for different patients.
        overlaps: What the data set's own splits share.
        split_overlaps: What the splits of the given split file share.
        split_changes: Images that are not the split file's: added, removed or changed since it was made.
        associations: Every property that was looked at.
    """

    counts: tuple[Count, ...]
    unreadable: tuple[Unreadable, ...]
    exact_copies: tuple[tuple[LabelledImage, ...], ...]
    label_conflicts: tuple[tuple[LabelledImage, ...], ...]
    near_duplicates: tuple[tuple[LabelledImage, ...], ...]
    overlaps: tuple[Overlap, ...]
    split_overlaps: tuple[Overlap, ...]
    split_changes: tuple[str, ...]
    associations: tuple[Association, ...]

    @property
    def shortcuts(self) -> tuple[Association, ...]:
        """The properties that a model could tell the class by, the strongest first."""
        found = [association for association in self.associations if association.is_shortcut]
        return tuple(sorted(found, key=lambda association: -abs(association.auroc - 0.5)))


def audit(
    dataset: Dataset,
    observations: Sequence[Observation],
    unreadable: Sequence[Unreadable] = (),
    split: Sequence[LabelledImage] = (),
) -> Audit:
    """Judge what was observed; nothing is read here.

    Args:
        dataset: The records.
        observations: Of its readable images.
        unreadable: Its other files.
        split: The images of a split file made from it, if one is to be looked over.
    """
    copies = exact_copies(dataset.images)
    return Audit(
        counts=count(dataset.images),
        unreadable=tuple(unreadable),
        exact_copies=copies,
        label_conflicts=tuple(group for group in copies if len({image.label for image in group}) > 1),
        near_duplicates=near_duplicates(observations),
        overlaps=overlaps(dataset.images),
        split_overlaps=overlaps(split),
        split_changes=_changes(dataset.images, split) if split else (),
        associations=associations(observations, positive=dataset.labels[1]),
    )


def observe(
    dataset: Dataset, tell: Callable[[int, int], None] | None = None
) -> tuple[tuple[Observation, ...], tuple[Unreadable, ...]]:
    """Decode every file of a data set, on all cores.

    Args:
        dataset: The records.
        tell: Told how many files are done, and of how many.

    Returns:
        What was seen of each readable file, and the others with the reason; both in the data set's order.
    """
    observations, unreadable = [], []
    pool = ThreadPoolExecutor(usable_cores())  # Pillow decodes without the interpreter's lock
    try:
        for done, seen in enumerate(pool.map(lambda image: _observe(dataset, image), dataset.images), 1):
            if isinstance(seen, Unreadable):
                unreadable.append(seen)
            else:
                observations.append(seen)
            if tell:
                tell(done, len(dataset.images))
    finally:
        pool.shutdown(cancel_futures=True)
    return tuple(observations), tuple(unreadable)


def count(images: Iterable[LabelledImage]) -> tuple[Count, ...]:
    """Images and patients by split, class and series, in alphabetical order."""
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for image in images:
        groups[image.split, image.label, image.series].append(image.patient)
    return tuple(
        Count(split=split, label=label, series=series, images=len(owners), patients=len(set(owners)))
        for (split, label, series), owners in sorted(groups.items())
    )


def exact_copies(images: Iterable[LabelledImage]) -> tuple[tuple[LabelledImage, ...], ...]:
    """Groups of two and more files with the same bytes."""
    groups: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        groups[image.sha256].append(image)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def near_duplicates(observations: Sequence[Observation]) -> tuple[tuple[LabelledImage, ...], ...]:
    """Groups of files that differ in their bytes and show the same picture under two and more patients' names.

    Every thumbnail is compared with every other, in blocks: about a second for 5,000 images, and four times that for
    twice as many.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    total = len(observations)
    if not total:
        return ()
    thumbnails = np.stack([seen.thumbnail for seen in observations])  # [N, 1024]
    pairs = []
    for start in range(0, total, _BLOCK):
        near = thumbnails[start : start + _BLOCK] @ thumbnails.T > NEAR_DUPLICATE_CORRELATION
        pairs.append(np.argwhere(near) + np.array([start, 0]))
    rows, columns = np.concatenate(pairs).T
    _, group_of = connected_components(coo_array((np.ones(len(rows), bool), (rows, columns)), (total, total)))
    groups: dict[int, list[LabelledImage]] = defaultdict(list)
    for seen, group in zip(observations, group_of, strict=True):
        groups[int(group)].append(seen.image)
    return tuple(
        tuple(group)
        for group in groups.values()
        if len({image.patient for image in group}) > 1 and len({image.sha256 for image in group}) > 1
    )


def overlaps(images: Iterable[LabelledImage]) -> tuple[Overlap, ...]:
    """Patients and exact copies that two splits share; pairs of splits that share nothing are left out."""
    splits: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        if image.split not in ("", UNREADABLE):
            splits[image.split].append(image)
    found = []
    for first, second in combinations(sorted(splits), 2):
        contents = {image.sha256 for image in splits[first]}
        shared = {image.patient for image in splits[first]} & {image.patient for image in splits[second]}
        copies = tuple(image.path for image in splits[second] if image.sha256 in contents)
        if shared or copies:
            found.append(Overlap(first=first, second=second, patients=tuple(sorted(shared)), copies=copies))
    return tuple(found)


def associations(observations: Sequence[Observation], *, positive: str) -> tuple[Association, ...]:
    """How each property of the files goes with the class; none when only one class could be read.

    Style is one property: the probability of the positive class that other patients' images give it.

    Args:
        observations: Of the readable files.
        positive: Label of the positive class.
    """
    is_positive = np.array([seen.image.label == positive for seen in observations])
    if len(set(is_positive.tolist())) < 2:
        return ()
    found = [
        _of_number(name, np.array([measure(seen) for seen in observations], np.float64), is_positive)
        for name, measure in PROPERTIES.items()
    ]
    patients = np.array([seen.image.patient for seen in observations])
    if min(len(set(patients[of_class])) for of_class in (is_positive, ~is_positive)) >= LEAST_FOR_STYLE:
        told = class_by_style(np.array([seen.style for seen in observations]), is_positive, patients)
        found.append(_of_number(STYLE, told, is_positive))
    for name, value_of in CATEGORIES.items():
        values = [value_of(seen) for seen in observations]
        found += [
            _of_category(f"{name} {other}", np.array([value == other for value in values]), is_positive)
            for other, _ in Counter(values).most_common()[1:]
        ]
    return tuple(found)


def _of_number(name: str, values: NDArray[np.float64], is_positive: NDArray[np.bool_]) -> Association:
    from scipy.stats import mannwhitneyu

    of_positive, of_negative = values[is_positive], values[~is_positive]
    test = mannwhitneyu(of_positive, of_negative)
    return Association(
        name=name,
        is_category=False,
        auroc=float(test.statistic) / (len(of_positive) * len(of_negative)),
        p_value=float(test.pvalue),
        negative=float(np.median(of_negative)),
        positive=float(np.median(of_positive)),
    )


def _of_category(name: str, has: NDArray[np.bool_], is_positive: NDArray[np.bool_]) -> Association:
    from scipy.stats import fisher_exact

    table = [[int((has & of_class).sum()), int((~has & of_class).sum())] for of_class in (is_positive, ~is_positive)]
    negative, positive = float(has[~is_positive].mean()), float(has[is_positive].mean())
    return Association(
        name=name,
        is_category=True,
        auroc=(1.0 + positive - negative) / 2.0,  # of a score that is 1 or 0
        p_value=float(fisher_exact(table).pvalue),
        negative=negative,
        positive=positive,
    )


def _observe(dataset: Dataset, image: LabelledImage) -> Observation | Unreadable:
    path = dataset.file(image)
    try:
        grey = decode(path, PreprocessSpec())
    except ImageError as exc:
        return Unreadable(path=image.path, reason=str(exc))
    header = read_header(path)
    pixels = np.asarray(grey)
    low, high = np.percentile(pixels, PERCENTILES)
    return Observation(
        image=image,
        width=header.width,
        height=header.height,
        mode=header.mode,
        file_format=header.file_format,
        size_bytes=path.stat().st_size,
        mean=float(pixels.mean()),
        low=float(low),
        high=float(high),
        contrast=float(pixels.std()),
        squeeze=_squeeze(pixels),
        style=measure_style(np.asarray(grey.resize((STYLE_SIDE, STYLE_SIDE)))[None, :, :, None])[0],
        thumbnail=_thumbnail(grey),
    )


def _squeeze(pixels: NDArray[np.uint8]) -> float:
    greys = pixels.astype(np.float32)
    steps = [np.abs(np.diff(greys, axis=axis)) for axis in (1, 0)]
    across, down = (float(step.sum()) / max(1, step.size) + 1e-6 for step in steps)  # not 0 for a flat picture
    return across / down


def _thumbnail(grey: Image.Image) -> NDArray[np.float32]:
    small = grey.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    centred: NDArray[np.float32] = np.array(small, np.float32).ravel()
    centred -= centred.mean()
    length = np.linalg.norm(centred)
    if length > 0:
        centred /= length
    return centred


def _changes(images: Iterable[LabelledImage], split: Iterable[LabelledImage]) -> tuple[str, ...]:
    now = {image.path: image.sha256 for image in images}
    before = {image.path: image.sha256 for image in split}
    return tuple(sorted(path for path in now.keys() | before.keys() if now.get(path) != before.get(path)))
