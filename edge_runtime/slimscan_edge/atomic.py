"""Writing a file whole or not at all: a device loses power when it likes."""

import contextlib
import os
import stat
from pathlib import Path
from typing import IO

from slimscan_edge.errors import InputError


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace a file only when all of the new content is on disk; its folder is made when absent.

    Of a link the target is replaced, not the link. A pipe or a device that takes characters is written to, a disk is
    not.

    Raises:
        InputError: The folder or the file cannot be written.
    """
    try:
        if _is_special(path):
            _write_into(path, content)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except OSError as exc:
        raise InputError(f"{os.fspath(path)} cannot be written ({exc.strerror or exc})") from exc


def _is_special(path: str | os.PathLike[str]) -> bool:
    """Whether there is something at the path, links followed, that is neither a file nor a folder."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISBLK(mode):
        raise InputError(f"{os.fspath(path)} cannot be written (it is a disk); give a file")
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write_into(path: str | os.PathLike[str], content: bytes) -> None:
    # Without waiting for somebody who reads a pipe, and then as fast as it is read.
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    os.set_blocking(descriptor, True)
    with open(descriptor, "wb", buffering=0) as file:
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]


def _replace(target: Path, content: bytes) -> None:
    if target.is_dir():
        raise InputError(f"{target} cannot be written (it is a folder)")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.urandom(8).hex()}.partial")
    try:
        if not _written_nameless(partial, content):
            with partial.open("xb") as file:
                _write_out(file, content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _written_nameless(path: Path, content: bytes) -> bool:
    """Write a file that gets its name when it is whole, and before is gone if this process is; False where none can be.

    Raises:
        OSError: It cannot be written, nameless or not.
    """
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except (AttributeError, OSError):  # it is Linux's, and not every file system has it
        return False
    with open(descriptor, "wb") as file:
        _write_out(file, content)
        with contextlib.suppress(OSError):  # with a descriptor for a folder Python calls linkat(2), which follows links
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)
            return True
    return False


def _write_out(file: IO[bytes], content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
