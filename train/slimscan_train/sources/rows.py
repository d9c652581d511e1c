"""What a source says of each image, before any name is parsed and any file is read."""

from dataclasses import dataclass
from pathlib import Path

from slimscan_edge.files import PassedOver, Unreadable

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Spellings of a split, in lower case, with the name that it goes by here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image as its source names it.

    Attributes:
        path: Relative to the source's root, with forward slashes; absolute where it lies elsewhere.
        label: Name of its class, as it is spelt there.
        split: The split that the source puts it in; "" when it says nothing.
        patient: Its patient; "" when the source names none.
        below: The folders between its class and itself; for a table, all that its path names.
    """

    path: str
    label: str
    split: str = ""
    patient: str = ""
    below: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """All that was read from a folder or a table.

    Attributes:
        root: Folder that the paths are relative to.
        is_table: Whether it is a table, which names its images itself.
        rows: The images.
        notes: What a person should know of how they were read, a line each.
        unreadable: Files that cannot be read.
        passed_over: What is no image.
    """

    root: Path
    is_table: bool
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()


def split_named(text: str) -> str:
    """The split that a name stands for, in any case and with "set" or "data" behind it; "" for none."""
    words = text.casefold().replace("_", " ").replace("-", " ").split()
    if len(words) == 2 and words[1] in ("set", "data", "images", "split"):
        words.pop()
    return SPLITS.get(words[0], "") if len(words) == 1 else ""
