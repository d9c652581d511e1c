"""Folders of images: `[SPLIT/]CLASS/.../image`, and what people and zip files make of it.

Folders that merely wrap the data set (`chest_xray/chest_xray/train`) are seen through. A split may also lie below its
class (`CLASS/SPLIT/image`), and is known in any case and usual spelling (`Training`, `valid`, `test_set`). All folders
below a class belong to its images; the first of them may be their patients (`CLASS/PATIENT/image`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from slimscan_edge.errors import InputError
from slimscan_edge.files import find_images, printable_path, unreadable_in_words
from slimscan_train.sources.classes import class_key
from slimscan_train.sources.rows import SPLITS, Row, Source, split_named

MOST_PER_PATIENT = 30
"""Images in a folder, on average, up to which folders are taken for patients rather than hospitals, years or views."""


def read_folder(root: Path) -> Source:
    """Read the rows of a data folder.

    Raises:
        InputError: There is no image, one lies in no class folder, a table seems to name the classes, the folder holds
            the data set twice, or a folder (or a link that may have led to one) cannot be read.
    """
    found = find_images([root])
    if refused := tuple(bad for bad in found.unreadable if bad.holds_many):
        raise InputError(f"{unreadable_in_words(refused)}; make it readable, or remove it")
    if not found.images:
        raise InputError(unreadable_in_words(found.unreadable))
    paths = [PurePosixPath(file.relative_to(root).as_posix()) for file in found.images]
    wrapped = _wrapping_folders(paths)
    rows = tuple(_row(root, path, wrapped) for path in paths)
    _refuse_a_second_copy(root, rows, wrapped)
    tables = [one.path for one in found.passed_over if one.path.lower().endswith((".csv", ".tsv"))]
    if tables and len({class_key(row.label) for row in rows}) != 2:
        raise InputError(
            f"{root} does not hold two class folders; if {printable_path(tables[0])} names the classes, give that file"
        )
    return Source(root=root, is_table=False, rows=rows, unreadable=found.unreadable, passed_over=found.passed_over)


def patient_depth(rows: Sequence[Row]) -> int:
    """How many of the folders below a class name a patient; 0 where they name none.

    The fewest are taken that sort most images of a class into two folders or more, of few images on average; a class
    without folders has no say.
    """
    by_class: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_class[row.label].append(row)
    for depth in range(1, max((len(row.below) for row in rows), default=0) + 1):
        sorted_in = [found for found in by_class.values() if any(len(row.below) >= depth for row in found)]
        if all(_sorts_by_patient(found, depth) for found in sorted_in):
            return depth
    return 0


def _sorts_by_patient(rows: Sequence[Row], depth: int) -> bool:
    folders = Counter(row.below[:depth] for row in rows if len(row.below) >= depth)
    return folders.total() > len(rows) / 2 and 2 <= len(folders) >= folders.total() / MOST_PER_PATIENT


def _wrapping_folders(paths: Iterable[PurePosixPath]) -> int:
    """How many folders at the top hold all images and are neither split nor class: their contents are."""
    folders = [path.parts[:-1] for path in paths]
    depth = 0
    while all(len(parts) > depth + 1 for parts in folders):
        here, inside = ({parts[level] for parts in folders} for level in (depth, depth + 1))
        is_split = any(map(split_named, here))
        holds_data = any(map(split_named, inside)) or len({class_key(name) for name in inside}) == 2
        deeper = all(len(parts) > depth + 2 for parts in folders) and len(inside) == 1
        if len(here) != 1 or is_split or not (holds_data or deeper):
            break
        depth += 1
    return depth


def _row(root: Path, path: PurePosixPath, wrapped: int) -> Row:
    folders = path.parts[wrapped:-1]
    split = ""
    # a class may be called "valid" or "dev": only what is below can tell
    if folders and (len(folders) > 1 or folders[0] in SPLITS.values()):
        split = split_named(folders[0])
    if split:
        folders = folders[1:]
    elif len(folders) > 1 and (split := split_named(folders[1])):
        folders = (folders[0], *folders[2:])
    if not folders:
        raise InputError(f"{root / path} lies in no class folder; expected CLASS/image or SPLIT/CLASS/image")
    return Row(path=str(path), label=folders[0], split=split, below=folders[1:])


def _refuse_a_second_copy(root: Path, rows: Iterable[Row], wrapped: int) -> None:
    """Some zip files hold a data set twice, `train` and `chest_xray/train`: the inner one looks like a class."""
    outer: set[str] = set()
    inner: dict[str, set[str]] = {}
    for row in rows:
        parts = PurePosixPath(row.path).parts
        if split_named(parts[wrapped]):
            outer.add(class_key(row.label))
        elif row.split and row.below:
            inner.setdefault("/".join(parts[: wrapped + 1]), set()).add(class_key(row.below[0]))
    if twice := sorted(folder for folder, classes in inner.items() if classes & outer):
        raise InputError(
            f"{root} holds the data set twice, itself and in {root / twice[0]}, as some zip files do; "
            f"give {root / twice[0]}, or remove it"
        )
