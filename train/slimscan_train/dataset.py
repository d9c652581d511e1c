"""A folder or a table of labelled images, as records.

Layouts: `DIR/{train,val,test}/CLASS/*`, `DIR/CLASS/*`, either with further folders (of patients) below the class, or a
CSV file with the columns `path`, `label` and, if known, `patient` and `split`. What else of these is read is told in
`slimscan_train.sources`.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from slimscan_edge.errors import InputError
from slimscan_edge.files import PassedOver, Unreadable, passed_over_lines, printable_path, unreadable_in_words
from slimscan_train.naming import ImageName, NamingRule, parse, parse_folders, recognise
from slimscan_train.sources.classes import choose_classes, one_spelling
from slimscan_train.sources.folders import patient_depth, read_folder
from slimscan_train.sources.rows import Row, Source
from slimscan_train.sources.tables import columns_in_words, read_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a data set is asked to be read: with the same one the same files give the same records.

    Attributes:
        naming: Rule for file names; recognised from all names when None.
        positive: The positive class; told by the classes' names when None.
        columns: Pairs of our column of a table and its name there.
        root: Folder that a table's paths are relative to; its own when None.
    """

    naming: NamingRule | None = None
    positive: str | None = None
    columns: tuple[tuple[str, str], ...] = ()
    root: Path | None = None

    def to_words(self) -> list[str]:
        """As options of a command line."""
        columns = ",".join(columns_in_words(self.columns))
        named = {"naming": self.naming, "positive": self.positive, "columns": columns or None, "root": self.root}
        return [f"--{option}={value}" for option, value in named.items() if value is not None]

    def to_table(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**asdict(self), "columns": dict(self.columns), "root": None if self.root is None else str(self.root)}

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Reading":
        """From the values of `to_table`.

        Raises:
            TypeError: They are none of its.
            KeyError: One is absent.
        """
        root = table["root"]
        return cls(
            naming=table["naming"],
            positive=table["positive"],
            columns=tuple(table["columns"].items()),
            root=None if root is None else Path(root),
        )


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
        reading: How it was asked to be read.
        notes: What a person should know of how it was read, a line each.
        unreadable: Files that could not even be opened: they are no images of the data set.
        passed_over: What is no image.
    """

    root: Path
    images: tuple[LabelledImage, ...]
    labels: tuple[str, str]
    naming: str
    reading: Reading = Reading()
    notes: tuple[str, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()

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
        """One line: the positive class, counts by class, patients, duplicates, and the naming rule."""
        counts = Counter(image.label for image in self.images)
        patients = len({image.patient for image in self.images})
        copies = len(self.images) - len({image.sha256 for image in self.images})
        by_class = ", ".join(f"{counts[label]:,} {label}" for label in self.labels)
        rule = {
            "generic": "naming rule 'generic': EVERY FILE IS TAKEN FOR A PATIENT OF ITS OWN",
            "folder": "naming rule 'folder': each folder below a class is a patient",
            "column": "patients as the CSV names them",
        }.get(self.naming, f"naming rule {self.naming!r}")
        found = f"{len(self.images):,} images ({by_class}) of {patients:,} patients, {copies} exact copies"
        return f"{self.labels[1]} is the positive class; {found}; {rule}"

    def to_lines(self) -> list[str]:
        """What else a person should know: how it was read, what was passed over, and what could not be read."""
        lines = [*map(printable_path, self.notes), *passed_over_lines(self.passed_over)]
        return [*lines, unreadable_in_words(self.unreadable)] if self.unreadable else lines


def read_dataset(
    source: Path,
    *,
    naming: NamingRule | None = None,
    positive: str | None = None,
    columns: Mapping[str, str] | None = None,
    root: Path | None = None,
) -> Dataset:
    """Read a data set's records; no image is decoded.

    Args:
        source: A folder of one of the known layouts, or a CSV file.
        naming: Rule for file names; recognised from all names when None.
        positive: Name of the positive class; told by their names when None (NORMAL is the negative one).
        columns: Columns of a CSV file that are called otherwise there: our name to its.
        root: Folder that the paths in a CSV file are relative to; its own when None.

    Raises:
        InputError: The source is absent or of no known layout, does not hold two classes or does not tell which one is
            positive, or a file's name is not of the rule asked for.
    """
    found = _read_source(source, columns, root)
    spelling = one_spelling(row.label for row in found.rows)
    labels = choose_classes(set(spelling.values()), positive, source)
    rows = tuple(replace(row, label=spelling[row.label]) for row in found.rows)
    depth = patient_depth(rows)
    rule = naming or _recognise(rows, has_patient_folders=depth > 0 and not found.is_table)
    names = _names(replace(found, rows=rows), rule, max(1, depth))
    digests, unreadable = _digests(found.root, rows)
    if found.is_table and unreadable:
        raise InputError(_absent(source, found.root, unreadable))
    images = [
        _record(row, name, digests[row.path]) for row, name in zip(rows, names, strict=True) if row.path in digests
    ]
    return Dataset(
        root=found.root,
        images=tuple(sorted(images, key=lambda image: image.path)),
        labels=labels,
        naming="column" if all(row.patient for row in rows) else rule,
        reading=Reading(naming=naming, positive=positive, columns=tuple((columns or {}).items()), root=root),
        notes=(*found.notes, *_notes_on(found.rows, spelling)),
        unreadable=(*found.unreadable, *unreadable),
        passed_over=found.passed_over,
    )


def _read_source(source: Path, columns: Mapping[str, str] | None, root: Path | None) -> Source:
    if not source.exists():
        raise InputError(f"{source} does not exist; give a folder of CLASS/image files or a CSV file")
    if not source.is_dir():
        if root is not None and not root.is_dir():
            raise InputError(f"--root {root} is no folder; give the one that the paths in {source} are relative to")
        return read_table(source, root=root, columns=columns)
    if columns or root is not None:
        raise InputError(f"--{'columns' if columns else 'root'} goes with a CSV file, and {source} is a folder")
    return read_folder(source)


def _recognise(rows: Sequence[Row], *, has_patient_folders: bool) -> NamingRule:
    rule = recognise(PurePosixPath(row.path) for row in rows)
    return "folder" if rule == "generic" and has_patient_folders else rule


def _names(source: Source, rule: NamingRule, depth: int) -> list[ImageName]:
    """What the rule reads in each row's path.

    Raises:
        InputError: It does not know some of them, or one is no text.
    """
    for row in source.rows:
        try:
            row.path.encode()
        except UnicodeEncodeError:
            raise InputError(f"the name {os.fsencode(source.root / row.path)!r} is not in UTF-8; rename it") from None
    by_folder = source.is_table and not _folders_are_patients(source.rows)
    named = [(row, _name(row, rule, depth, series_by_folder=by_folder)) for row in source.rows]
    if odd := sorted(row.path for row, name in named if name is None):
        more = f", nor are {len(odd) - 1:,} more" if odd[1:] else ""
        raise InputError(
            f"{source.root / odd[0]} is not named by the rule {rule!r}{more}; rename it, or say "
            "--naming generic, which takes every file for a patient of its own"
        )
    return [name for _, name in named if name is not None]


def _folders_are_patients(rows: Sequence[Row]) -> bool:
    """Whether the folders of a table's images are so many that they are no series: no patient would be left for val."""
    folders = len({row.below for row in rows})
    return folders > 2 and 2 * folders > len({row.patient or row.path for row in rows})


def _name(row: Row, rule: NamingRule, depth: int, *, series_by_folder: bool) -> ImageName | None:
    path = PurePosixPath(row.path)
    if rule == "kermany" or (rule == "generic" and series_by_folder):
        return parse(rule, path)
    return parse_folders(path, row.label, row.below[:depth] if rule == "folder" else ())


def _digests(root: Path, rows: Sequence[Row]) -> tuple[dict[str, str], tuple[Unreadable, ...]]:
    """The SHA-256 of each file by its path, and the files that cannot be read."""
    digests: dict[str, str] = {}
    unreadable = []
    for row in rows:
        file = root / row.path
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                raise OSError("it is no regular file")
            digests[row.path] = hashlib.sha256(file.read_bytes()).hexdigest()
        except (OSError, ValueError) as exc:  # a path with a zero byte is a bad value
            reason = f"{file} cannot be read ({getattr(exc, 'strerror', None) or exc})"
            unreadable.append(Unreadable(path=str(file), reason=reason))
    return digests, tuple(unreadable)


def _absent(table: Path, root: Path, unreadable: Sequence[Unreadable]) -> str:
    more = f" and {len(unreadable) - 1:,} more that {table} names" if unreadable[1:] else f", which {table} names"
    return (
        f"{printable_path(unreadable[0].reason)}{more}; its paths are taken relative to {root}: "
        "give another folder with --root, or remove the rows"
    )


def _record(row: Row, name: ImageName, digest: str) -> LabelledImage:
    return LabelledImage(
        path=row.path,
        label=row.label,
        patient=row.patient or name.patient,
        group=name.group,
        series=name.series,
        number=name.number,
        split=row.split,
        sha256=digest,
    )


def _notes_on(rows: Sequence[Row], spelling: Mapping[str, str]) -> Iterator[str]:
    """What was read otherwise than it is written."""
    counts = Counter(row.label for row in rows)
    for label, chosen in sorted(spelling.items()):
        if label != chosen:
            yield f"{counts[label]:,} image{'s' if counts[label] > 1 else ''} of class {label!r} read as {chosen!r}"
    nameless = sum(not row.patient for row in rows)
    if 0 < nameless < len(rows):
        yield f"{nameless:,} rows name no patient, and are read by their file's name"
