"""Tables of images: CSV as spreadsheets, other programs and other systems write it.

Separated by comma, semicolon, tab or bar; UTF-8 or UTF-16 with its mark; columns of other names by `columns`; paths of
Windows, absolute ones, and relative ones to the table's folder or to another.
"""

import csv
import difflib
import io
import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slimscan_edge.errors import InputError
from slimscan_edge.files import printable_path
from slimscan_train.sources.classes import class_key
from slimscan_train.sources.rows import Row, Source, split_named

COLUMNS = ("path", "label", "patient", "split")
REQUIRED = COLUMNS[:2]
_SEPARATORS = ",;\t|"
_USUAL = {
    "path": "path, file, filename, file name, filepath, file path, image, image path, image file, image name, "
    "image index, image id, img, name, xray, x ray, dicom",
    "label": "label, class, target, diagnosis, finding, finding labels, category, y, truth, disease, outcome",
    "patient": "patient, patient id, patientid, subject, subject id, person, pid, case id, study id, mrn",
    "split": "split, set, fold, partition, subset, phase, usage",
}
"""What the columns are called elsewhere: only suggested, never taken unasked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A row as it is written, and the line of the file that it ends on."""

    number: int
    values: dict[str, str]


def parse_columns(texts: list[str]) -> dict[str, str]:
    """Read `path=filename,label=class` and the like; a name with a comma goes in double quotes.

    Raises:
        InputError: It is not so written, or names a column that slimscan does not read.
    """
    columns: dict[str, str] = {}
    for text in texts:
        for pair in next(csv.reader([text], skipinitialspace=True), []):
            ours, separator, theirs = (part.strip() for part in pair.partition("="))
            if not separator or not theirs:
                raise InputError(f"--columns {pair!r}: expected OURS=THEIRS, such as path=filename,label=class")
            if ours not in COLUMNS:
                near = difflib.get_close_matches(ours.casefold(), COLUMNS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(COLUMNS)}"
                raise InputError(f"--columns {pair!r}: there is no column {ours!r} to read; {hint}")
            if columns.setdefault(ours, theirs) != theirs:
                raise InputError(f"--columns names {ours!r} twice, as {columns[ours]!r} and {theirs!r}")
    return columns


def columns_in_words(columns: Iterable[tuple[str, str]]) -> list[str]:
    """Pairs of our column and its name in a table, as `parse_columns` takes them."""
    words = io.StringIO()
    csv.writer(words, lineterminator="\n").writerows([f"{ours}={theirs}"] for ours, theirs in columns)
    return words.getvalue().splitlines()


def read_table(table: Path, *, root: Path | None = None, columns: Mapping[str, str] | None = None) -> Source:
    """Read the rows of a CSV file.

    Args:
        table: The file; its first line names the columns.
        root: What relative paths are relative to; the table's folder when None.
        columns: Of `COLUMNS`, those that are called otherwise there.

    Raises:
        InputError: It is no such table, lacks a column, or its rows contradict each other.
    """
    text, separator = _without_separator_line(_text(table))
    separator = separator or _separator(text, columns or {})
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = next((fields for fields in reader if any(map(str.strip, fields))), [])
        places = _places(table, header, columns or {})
        lines = list(_lines(table, reader, len(header), places))
    except csv.Error as exc:
        raise InputError(f"{table}, line {reader.line_num}, cannot be read as a CSV file ({exc})") from exc
    if not lines:
        raise InputError(f"{table} has no rows")
    folder = root or table.parent
    _require_values(table, lines)
    notes = [*_unread_columns(header, places), *_spaces(lines)]
    kept, repeated = _once_each(table, [(line, _row(table, folder, line)) for line in lines])
    if repeated:
        notes.append(f"{repeated:,} rows of {table.name} repeat another row, and count once")
    return Source(root=folder, is_table=True, rows=tuple(kept), notes=tuple(notes))


def _text(table: Path) -> str:
    try:
        raw = table.read_bytes()
        text = raw.decode("utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zero bytes")
    except (OSError, ValueError) as exc:
        raise InputError(
            f"{table} cannot be read as a CSV file in UTF-8 ({exc}); save it as CSV in UTF-8, or give a folder"
        ) from exc
    return text


def _without_separator_line(text: str) -> tuple[str, str]:
    """A text without the line `sep=;` that some spreadsheets write first, and what it says."""
    match = re.match(r"\"?sep=(.)\"?\r?\n", text, re.IGNORECASE)
    return (text[match.end() :], match[1]) if match else (text, "")


def _separator(text: str, columns: Mapping[str, str]) -> str:
    """The one by which the first line names the most of our columns, and then the most columns."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    wanted = {columns.get(name, name).casefold() for name in COLUMNS}

    def found(separator: str) -> tuple[int, int]:
        names = {_plain(name) for name in next(csv.reader([first], delimiter=separator), [])}
        return len(names & wanted), len(names)

    return max(_SEPARATORS, key=found)  # the first of equals


def _plain(name: str) -> str:
    return name.strip().casefold()


def _places(table: Path, header: list[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Where in a row each of our columns stands, of those that there are.

    Raises:
        InputError: A required one is absent, or one that `columns` names; or a name stands there twice.
    """
    names = [_plain(name) for name in header]
    places: dict[str, int] = {}
    absent: list[str] = []
    for ours in COLUMNS:
        theirs = columns.get(ours, ours)
        at = [i for i, name in enumerate(header) if name.strip() == theirs.strip()]
        at = at or [i for i, name in enumerate(names) if name == _plain(theirs)]
        if len(at) > 1:
            raise InputError(f"{table} has {len(at)} columns {theirs!r}; name each column once")
        if at:
            places[ours] = at[0]
        elif ours in columns or ours in REQUIRED:
            absent.append(ours)
    if absent:
        theirs = ", ".join(columns.get(ours, ours) for ours in absent)
        got = printable_path(", ".join(map(str.strip, header)))[:200]
        raise InputError(
            f"{table} has no column {theirs}; expected path, label, patient, split, got {got}"
            f"{_suggestion(header, absent, places, columns)}"
        )
    return places


def _suggestion(header: list[str], absent: list[str], places: Mapping[str, int], columns: Mapping[str, str]) -> str:
    free = [name.strip() for i, name in enumerate(header) if name.strip() and i not in places.values()]
    near = {ours: theirs for ours in absent if (theirs := _nearest(columns.get(ours, ours), ours, free))}
    if not near:
        return "; say which is which: --columns path=NAME,label=NAME"
    pairs = {**{ours: theirs for ours, theirs in columns.items() if ours in places}, **near}
    return f"; perhaps --columns {shlex.quote(','.join(columns_in_words(pairs.items())))}"


def _nearest(asked: str, ours: str, names: list[str]) -> str:
    """The name that comes nearest to what was asked for, or one of our columns is called anywhere; "" if none does."""
    usual = [name.strip() for name in _USUAL[ours].split(",")]
    by_words = {" ".join(re.split(r"[\W_]+", _plain(name))).strip(): name for name in names}
    if asked != ours and (near := difflib.get_close_matches(_plain(asked), by_words, n=1, cutoff=0.7)):
        return by_words[near[0]]
    for name in usual:
        if name in by_words:
            return by_words[name]
    for name in usual:
        if near := difflib.get_close_matches(name, by_words, n=1, cutoff=0.75):
            return by_words[near[0]]
    return ""


def _unread_columns(header: list[str], places: Mapping[str, int]) -> Iterator[str]:
    """Patients and splits that stand in the table under another name would else be left out in silence."""
    free = [name.strip() for i, name in enumerate(header) if name.strip() and i not in places.values()]
    for ours, what in (("patient", "patients"), ("split", "splits")):
        exact = {name.strip() for name in _USUAL[ours].split(",")}
        for name in free:
            if ours not in places and " ".join(re.split(r"[\W_]+", _plain(name))).strip() in exact:
                option = shlex.quote(*columns_in_words([(ours, name)]))
                yield f"column {name!r} is not read; if it names {what}, say --columns {option}"


def _lines(table: Path, reader: Iterator[list[str]], width: int, places: Mapping[str, int]) -> Iterator[_Line]:
    for fields in reader:
        if not any(map(str.strip, fields)):
            continue
        number = reader.line_num  # type: ignore[attr-defined]
        if any(map(str.strip, fields[width:])):
            raise InputError(
                f"{table}, line {number}, has {len(fields)} fields where the first line has {width}; "
                "put a field that holds the separator in double quotes"
            )
        yield _Line(number=number, values={ours: fields[at] for ours, at in places.items() if at < len(fields)})


def _require_values(table: Path, lines: list[_Line]) -> None:
    bare = [line.number for line in lines if any(not line.values.get(name, "").strip() for name in REQUIRED)]
    if bare:
        raise InputError(
            f"{table} has {len(bare)} rows without a path or a label (line {bare[0]} first); fill them in, or remove "
            "them"
        )


def _spaces(lines: list[_Line]) -> Iterator[str]:
    """Patients whose name has spaces around it in some rows: without them they may be one and the same."""
    odd = Counter(name for line in lines if (name := line.values.get("patient", "")) != name.strip() and name.strip())
    if odd:
        first = min(odd)
        yield (
            f"{len(odd):,} patients have spaces around their name in {odd.total():,} rows, and are read without: "
            f"{first!r} is {first.strip()!r}"
        )


def _row(table: Path, root: Path, line: _Line) -> Row:
    given = line.values.get("split", "").strip()
    if given and not (split := split_named(given)):
        raise InputError(
            f"{table}, line {line.number}, names the split {given!r}; expected train, val, test or nothing"
        )
    path = PurePosixPath(_relative(line.values["path"], root))
    return Row(
        path=str(path),
        label=line.values["label"].strip(),
        split=split if given else "",
        patient=line.values.get("patient", "").strip(),
        below=path.parts[:-1],
    )


def _relative(text: str, root: Path) -> str:
    """A path as the data set keeps it: with forward slashes, and relative to the root if it lies there."""
    if text != text.strip() and not (root / text).exists():
        text = text.strip()
    if "\\" in text and not (root / text).exists():
        text = text.replace("\\", "/")
    if text.startswith("/"):
        for base in (root.absolute(), root.resolve()):
            if PurePosixPath(text).is_relative_to(base):
                return str(PurePosixPath(text).relative_to(base))
    return text


def _once_each(table: Path, rows: list[tuple[_Line, Row]]) -> tuple[list[Row], int]:
    """Each image once, and how many rows only repeat another.

    Raises:
        InputError: Rows of one image contradict each other.
    """
    by_path: dict[str, list[tuple[_Line, Row]]] = defaultdict(list)
    for line, row in rows:
        by_path[os.path.normpath(row.path)].append((line, row))
    torn = {path: found for path, found in by_path.items() if len({_says(row) for _, row in found}) > 1}
    if torn:
        path, found = next(iter(torn.items()))
        lines = " and ".join(str(line.number) for line, _ in found[:4])
        said = " and ".join(dict.fromkeys(", ".join(filter(None, _says(row))) for _, row in found))
        raise InputError(
            f"{table} names {printable_path(path)} {len(found)} times (lines {lines}), as {said}; "
            f"{len(torn)} images are named so: name each image once"
        )
    kept = [found[0][1] for found in by_path.values()]
    return kept, len(rows) - len(kept)


def _says(row: Row) -> tuple[str, ...]:
    return class_key(row.label), row.patient, row.split
