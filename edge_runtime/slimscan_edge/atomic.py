"""Writing a file whole or not at all: a device loses power when it likes."""

import contextlib
import os
import stat
from pathlib import Path

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
        nameless = _open_nameless(target.parent)
        with partial.open("xb") if nameless is None else open(nameless, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if nameless is not None:
                # with a descriptor for a folder, whichever, Python calls linkat(2), which follows the link in /proc
                os.link(f"/proc/self/fd/{nameless}", partial, src_dir_fd=nameless)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _open_nameless(folder: Path) -> int | None:
    """Open a new file that has no name yet, and so is gone if this process is; None where that cannot be had."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # not every file system has it
            return os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666)
    return None
