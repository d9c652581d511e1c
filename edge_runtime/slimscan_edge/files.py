"""Which files in folders are images: the one search of every command that takes folders.

Links are followed, unless they lead back to a folder that holds them. A file with the suffix of an image is taken for
one and not opened: opening 65,000 files costs a slow disk minutes, and what is damaged the decoder tells anyway. Any
other file is opened for its first bytes: a hospital's CD names its DICOM files IM0001. Pictures of a format that is not
read (GIF, HEIF) are found too, so that the decoder refuses them by name. Nothing is left out in silence: all else is
either unreadable or passed over, with the reason. Imports neither NumPy nor Pillow.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from slimscan_edge.errors import ImageError

IMAGE_SUFFIXES = frozenset(
    {".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom"}
)
"""Of files that a search takes for images without opening them; a file that is given itself may be called anything."""

Kind = Literal["no image", "hidden", "link back"]
SHOWN = 5
"""Names that a line for people gives of each kind."""

_HEAD_BYTES = 132
_SYSTEM = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""Folders that macOS, network storage, Windows and Linux leave on disks, in lower case."""
_DICOM_INDEX = "dicomdir"
"""The table of contents of a DICOM medium (PS3.10, 8.6): DICOM without a picture."""
_SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"II*\0",  # TIFF, then BigTIFF
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"GIF87a",
    b"GIF89a",
    b"\0\0\0\x0cjP  \r\n\x87\n",  # JPEG 2000, in a file and bare
    b"\xff\x4f\xff\x51",
    b"\0\0\0\x0cJXL \r\n\x87\n",
)
_BITMAP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """What cannot be read.

    Attributes:
        path: As it was found.
        reason: A sentence that begins with the path.
        holds_many: Whether it may hold any number of images: a folder, or a link to nothing that may have been one.
    """

    path: str
    reason: str
    holds_many: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A file or a folder that is no image: its path, and which kind of thing it is."""

    path: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search came upon, each in the order of the inputs and, within a folder, of the names.

    Attributes:
        images: Image files.
        unreadable: What cannot be read.
        passed_over: All else.
    """

    images: tuple[Path, ...]
    unreadable: tuple[Unreadable, ...]
    passed_over: tuple[PassedOver, ...]


def find_images(inputs: Iterable[Path]) -> Found:
    """Find the images among paths: files as they are given, folders searched in depth.

    A folder without any image is unreadable, as is a path that does not exist.
    """
    found = _Finding()
    for path in inputs:
        found.add(path)
    return Found(images=tuple(found.images), unreadable=tuple(found.unreadable), passed_over=tuple(found.passed_over))


def image_files(inputs: Iterable[Path], note: Callable[[str], None] = lambda _: None) -> list[Path]:
    """As `find_images`, where every path must be readable.

    Args:
        inputs: Files and folders.
        note: Told what was passed over, a line each.

    Raises:
        ImageError: Something cannot be read; each is named.
    """
    found = find_images(inputs)
    for line in passed_over_lines(found.passed_over):
        note(line)
    if found.unreadable:
        raise ImageError(unreadable_in_words(found.unreadable))
    return list(found.images)


def passed_over_lines(passed_over: Iterable[PassedOver]) -> Iterator[str]:
    """A line for each kind of what was passed over: how many, and the first names."""
    paths: dict[Kind, list[str]] = {kind: [] for kind in get_args(Kind)}
    for one in passed_over:
        paths[one.kind].append(one.path)
    words: dict[Kind, tuple[str, str]] = {
        "no image": ("file that is no image", "files that are no images"),
        "hidden": ("hidden or system file or folder", "hidden or system files and folders"),
        "link back": ("link to a folder that holds it", "links to folders that hold them"),
    }
    for kind, of_kind in paths.items():
        if of_kind:
            yield f"passed over {len(of_kind):,} {words[kind][len(of_kind) > 1]}: {first_names(of_kind)}"


def unreadable_in_words(unreadable: tuple[Unreadable, ...]) -> str:
    """One line for one; for several their number, and the first of them a line each."""
    if len(unreadable) == 1:
        return printable_path(unreadable[0].reason)
    listed = "".join(f"\n  {printable_path(bad.reason)}" for bad in unreadable[:20])
    more = f"\n  and {len(unreadable) - 20:,} more" if len(unreadable) > 20 else ""
    return f"{len(unreadable):,} files and folders cannot be read:{listed}{more}"


def first_names(paths: list[str]) -> str:
    """The first few of many paths, for a line."""
    more = f" and {len(paths) - SHOWN:,} more" if len(paths) > SHOWN else ""
    return ", ".join(map(printable_path, paths[:SHOWN])) + more


def printable_path(text: str) -> str:
    """A text with all that does not print escaped: a name may be of any bytes, line ends and terminal codes too."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def has_image_suffix(name: str) -> bool:
    """Whether a file of this name is taken for an image without a look into it."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def begins_as_image(head: bytes) -> bool:
    """Whether a file's first 132 bytes are those of a picture, of a format that is read or of another."""
    if head.startswith(_SIGNATURES) or begins_as_dicom(head):
        return True
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in _BITMAP_HEADER_BYTES
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def begins_as_dicom(head: bytes) -> bool:
    """Whether a file's first 132 bytes are those of DICOM, with the preamble and its mark (PS3.10, 7.1) or without.

    A data set that is stored bare begins with an element of group 2 or 8: its value representation follows in two
    letters or, where it is implicit, a small even length.
    """
    if head[128:132] == b"DICM" or head.startswith(b"DICM"):
        return True
    if len(head) < 8:
        return False
    little = (int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little"))
    big = (int.from_bytes(head[:2], "big"), int.from_bytes(head[2:4], "big"))
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    length = int.from_bytes(head[4:8], "little")
    return any(group in (2, 8) and element <= 0x20 for group, element in (little, big) if explicit) or (
        little[0] in (2, 8) and little[1] <= 0x20 and 0 < length <= 256 and length % 2 == 0
    )


class _Finding:
    """A search in progress."""

    def __init__(self) -> None:
        self.images: list[Path] = []
        self.unreadable: list[Unreadable] = []
        self.passed_over: list[PassedOver] = []

    def add(self, path: Path) -> None:
        """Take one input."""
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except OSError as exc:
            self.refuse(str(path), _why_not(str(path), exc))
            return
        if not is_folder:
            self.images.append(path)
            return
        before = len(self.images), len(self.unreadable)
        self.search(path)
        if before == (len(self.images), len(self.unreadable)):
            self.refuse(str(path), f"holds no image file ({', '.join(sorted(IMAGE_SUFFIXES))}, or DICOM of any name)")

    def search(self, top: Path) -> None:
        """Search a folder in depth, in the order of names; `waiting` in place of a recursion, which is bounded."""
        waiting: list[tuple[os.DirEntry[str], tuple[str, ...]]] = []
        self._list(str(top), (os.path.realpath(top),), waiting)
        while waiting:
            entry, inside = waiting.pop()
            if _is_hidden(entry.name):
                self.pass_over(entry.path, "hidden")
                continue
            try:
                mode = entry.stat().st_mode if entry.is_symlink() else _mode(entry)
            except OSError as exc:
                many = not has_image_suffix(entry.name)
                self.refuse(entry.path, _why_not(entry.path, exc), holds_many=many)
                continue
            if not stat.S_ISDIR(mode):
                self._take(entry, regular=stat.S_ISREG(mode))
            elif entry.is_symlink():
                target = os.path.realpath(entry.path)
                if any(_holds(target, folder) for folder in inside):
                    self.pass_over(entry.path, "link back")
                else:
                    self._list(entry.path, (*inside, target), waiting)
            else:
                self._list(entry.path, (*inside[:-1], os.path.join(inside[-1], entry.name)), waiting)

    def refuse(self, path: str, why: str, *, holds_many: bool = False) -> None:
        self.unreadable.append(Unreadable(path=path, reason=f"{path} {why}", holds_many=holds_many))

    def pass_over(self, path: str, kind: Kind) -> None:
        self.passed_over.append(PassedOver(path=path, kind=kind))

    def _list(
        self, folder: str, inside: tuple[str, ...], waiting: list[tuple[os.DirEntry[str], tuple[str, ...]]]
    ) -> None:
        """Add a folder's entries to those that wait; `inside` holds the real folders that led to it and its own."""
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as exc:
            self.refuse(folder, f"cannot be searched ({exc.strerror or exc})", holds_many=True)
            return
        waiting.extend((entry, inside) for entry in listed)

    def _take(self, entry: os.DirEntry[str], *, regular: bool) -> None:
        if has_image_suffix(entry.name):
            if regular:
                self.images.append(Path(entry.path))
            else:
                self.refuse(entry.path, "cannot be read (it is no regular file)")
            return
        if not regular or entry.name.lower() == _DICOM_INDEX:
            self.pass_over(entry.path, "no image")
            return
        try:
            with open(entry.path, "rb", buffering=0) as file:
                is_image = begins_as_image(file.read(_HEAD_BYTES))
        except OSError as exc:
            self.refuse(entry.path, f"cannot be read ({exc.strerror or exc})")
            return
        if is_image:
            self.images.append(Path(entry.path))
        else:
            self.pass_over(entry.path, "no image")


def _is_hidden(name: str) -> bool:
    """A Mac leaves a `._name.jpeg` that is no picture beside every picture on a USB stick, and more in `__MACOSX`."""
    return name.startswith(".") or name.lower() in _SYSTEM


def _mode(entry: os.DirEntry[str]) -> int:
    """The kind of what is no link; without asking the disk where the folder's listing tells."""
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else stat.S_IFIFO


def _holds(folder: str, inner: str) -> bool:
    return inner == folder or inner.startswith(os.path.join(folder, ""))


def _why_not(path: str, exc: OSError) -> str:
    if exc.errno == errno.ENOENT:
        try:
            return f"is a link to nothing ({os.readlink(path)})"
        except OSError:
            return "does not exist; give image files or folders of them"
    if exc.errno == errno.ELOOP:
        return "is a link that leads to itself"
    return f"cannot be read ({exc.strerror or exc})"
