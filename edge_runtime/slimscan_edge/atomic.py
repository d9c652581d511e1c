"""Writing a file whole or not at all: a device loses power when it likes."""

import os
from pathlib import Path

from slimscan_edge.errors import InputError


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace a file only when all of the new content is on disk; its folder is made when absent.

    Raises:
        InputError: The folder or the file cannot be written.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as exc:
        raise InputError(f"{target} cannot be written ({exc.strerror or exc})") from exc
