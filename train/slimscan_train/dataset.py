"""A folder or a table of labelled images, as records.

Layouts: `DIR/{train,val,test}/CLASS/*`, `DIR/CLASS/*`, or a CSV file with the columns `path`, `label` and,
if known, `patient` and `split` (paths relative to the CSV's folder).
"""

import csv
import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slimscan_edge.errors import InputError
from slimscan_edge.preprocess import IMAGE_SUFFIXES
from slimscan_train.naming import NamingRule, parse, recognise

SPLIT_FOLDERS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """One image of a data set.

    Attributes:
        path: Relative to the data set's root, with forward slashes.
        label: Name of its class.
        patient: Identity of its patient.
        group: Subgroup that results are also reported for.
        series: Acquisition series.
        number: Patient number inside the series, 0 when unknown.
        split: The split that the data set itself puts it in, "" when it says nothing.
        sha256: Of the file's bytes, hexadecimal.
    """

    path: str
    label: str
    patient: str
    group: str
    series: str
    number: int
    split: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Labelled images under one root, in the order of their paths.

    Attributes:
        root: Folder that the paths are relative to.
        images: The records.
        labels: The negative and the positive class, in this order.
        naming: The rule that patients were read by; "column" when a CSV names them.
    """

    root: Path
    images: tuple[LabelledImage, ...]
    labels: tuple[str, str]
    naming: str

    def __post_init__(self) -> None:
        unknown = {image.label for image in self.images} - set(self.labels)
        if unknown:
            raise ValueError(f"images of class {', '.join(sorted(unknown))}, expected {' and '.join(self.labels)}")

    def file(self, image: LabelledImage) -> Path:
        """Where an image lies."""
        return self.root / image.path

    def is_positive(self, image: LabelledImage) -> bool:
        """Whether an image is of the positive class."""
        return image.label == self.labels[1]

    def describe(self) -> str:
        """One line: counts by class, patients, duplicates, and the naming rule."""
        counts = Counter(image.label for image in self.images)
        patients = len({image.patient for image in self.images})
        copies = len(self.images) - len({image.sha256 for image in self.images})
        by_class = ", ".join(f"{counts[label]:,} {label}" for label in self.labels)
        rule = {
            "generic": "naming rule 'generic': EVERY FILE IS TAKEN FOR A PATIENT OF ITS OWN",
            "column": "patients as the CSV names them",
        }.get(self.naming, f"naming rule {self.naming!r}")
        return f"{len(self.images):,} images ({by_class}) of {patients:,} patients, {copies} exact copies; {rule}"


def read_dataset(source: Path, *, naming: NamingRule | None = None, positive: str | None = None) -> Dataset:
    """Read a data set's records; no image is decoded.

    Args:
        source: A folder of one of the known layouts, or a CSV file.
        naming: Rule for file names; recognised from all names when None.
        positive: Name of the positive class; the last in alphabetical order when None (NORMAL, PNEUMONIA).

    Raises:
        InputError: The source is absent or of no known layout, does not hold two classes, or a file's name
            is not of the rule asked for.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist; give a folder of CLASS/image files or a CSV file")
    if source.is_file():
        root, rows = source.parent, _csv_rows(source)
    else:
        root, rows = source, _folder_rows(source)
    rule = naming or recognise(PurePosixPath(row["path"]) for row in rows)
    images = tuple(sorted((_record(root, row, rule) for row in rows), key=lambda image: image.path))
    has_patients = all(row.get("patient") for row in rows)
    return Dataset(
        root=root,
        images=images,
        labels=_labels({image.label for image in images}, positive, source),
        naming="column" if has_patients else rule,
    )


def _folder_rows(root: Path) -> list[dict[str, str]]:
    rows = []
    for path in (PurePosixPath(file.relative_to(root).as_posix()) for file in root.rglob("*") if file.is_file()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or any(part.startswith(".") for part in path.parts):
            continue
        folders = path.parts[:-1]
        split = folders[0] if folders and folders[0] in SPLIT_FOLDERS else ""
        classes = folders[1:] if split else folders
        if len(classes) != 1:
            raise InputError(f"{root / path} lies in no class folder; expected CLASS/image or SPLIT/CLASS/image")
        rows.append({"path": str(path), "label": classes[0], "split": split})
    if not rows:
        raise InputError(f"{root} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}) in class folders")
    return rows


def _csv_rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            rows = [{key: value or "" for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InputError(f"{table} cannot be read as a CSV file in UTF-8 ({exc})") from exc
    if absent := {"path", "label"} - columns:
        raise InputError(f"{table} has no column {', '.join(sorted(absent))}; expected path, label, patient, split")
    _check_rows(table, rows)
    return rows


def _check_rows(table: Path, rows: list[dict[str, str]]) -> None:
    bad = [row["split"] for row in rows if row.get("split") not in (None, "", *SPLIT_FOLDERS)]
    if bad:
        raise InputError(f"{table} names the split {bad[0]!r}; expected {', '.join(SPLIT_FOLDERS)} or nothing")
    if not rows:
        raise InputError(f"{table} has no rows")
    if any(not row["path"] or not row["label"] for row in rows):
        raise InputError(f"{table} has rows without a path or a label; fill them in, or remove them")
    path, count = Counter(os.path.normpath(row["path"]) for row in rows).most_common(1)[0]
    if count > 1:
        raise InputError(f"{table} names {path} {count} times; name each image once")


def _record(root: Path, row: dict[str, str], rule: NamingRule) -> LabelledImage:
    path = PurePosixPath(row["path"])
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"the name {os.fsencode(root / path)!r} is not in UTF-8; rename it") from None
    name = parse(rule, path)
    if name is None:
        raise InputError(f"{root / path} is not named by the rule {rule!r}; say --naming generic, or rename it")
    try:
        digest = hashlib.sha256((root / path).read_bytes()).hexdigest()
    except OSError as exc:
        raise InputError(f"{root / path} cannot be read ({exc.strerror or exc})") from exc
    return LabelledImage(
        path=str(path),
        label=row["label"],
        patient=row.get("patient") or name.patient,
        group=name.group,
        series=name.series,
        number=name.number,
        split=row.get("split", ""),
        sha256=digest,
    )


def _labels(found: set[str], positive: str | None, source: Path) -> tuple[str, str]:
    if len(found) != 2:
        raise InputError(f"{source} holds the classes {', '.join(sorted(found))}; expected exactly two")
    last = positive or max(found)
    if last not in found:
        raise InputError(f"no class {last!r} in {source}; it holds {', '.join(sorted(found))}")
    (first,) = found - {last}
    return first, last
