"""Where `slimscan predict --overlay` writes: one file for each picture, named by what the picture is."""

import errno
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from slimscan_edge.classifier import Classifier, Finding
from slimscan_edge.errors import EXIT_DONE, EXIT_MACHINE, BundleError, ImageError, SlimscanError
from slimscan_edge.overlay import READING, write_overlay
from slimscan_edge.preprocess import Refused
from slimscan_edge.stream import Decode

_LONGEST_NAME_BYTES = 220
"""Of an image's name in its overlay's: 255 are usual for a file, and 35 go to hash, suffix and writing atomically."""


class OverlayFiles:
    """A folder of overlays. What cannot be written there is told and stops no answer.

    Attributes:
        exit_code: 0, or that of the last error of writing: 4 where the disk was full.
    """

    def __init__(self, folder: Path, classifier: Classifier, decode: Decode, read: Callable[[Path], bytes]) -> None:
        """Nothing is written yet.

        Args:
            folder: Made when the first overlay is written.
            classifier: What answered.
            decode: What reads images.
            read: Gives the bytes of an image file; raises `slimscan_edge.preprocess.Refused`.
        """
        self.exit_code = EXIT_DONE
        self._folder, self._classifier, self._decode, self._read = folder, classifier, decode, read

    def write(self, path: Path, finding: Finding) -> tuple[Finding, Path | None]:
        """Draw a finding on its image and write it.

        Returns:
            The finding, `rejected` where its image can no longer be read; and the overlay's path, if it was written.

        Raises:
            BundleError: The bundle's evidence cannot be drawn.
        """
        try:
            raw = self._read(path)
            target = self._folder / overlay_name(path, raw)
            write_overlay(target, self._decode(raw, READING, name=str(path)), finding, self._classifier.manifest)
        except (
            ImageError,
            Refused,
        ) as exc:  # it was readable a moment ago: gone, or too large for the memory at full size
            reason = str(exc) if isinstance(exc, ImageError) else f"{path} {exc}"
            return Finding.rejected(reason, bundle_id=finding.bundle_id), None
        except BundleError:
            raise
        except SlimscanError as exc:
            print(f"slimscan predict: {exc}; the answer stands without it", file=sys.stderr)
            is_full = isinstance(exc.__cause__, OSError) and exc.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
            self.exit_code = EXIT_MACHINE if is_full else exc.exit_code
            return finding, None
        return finding, target


def overlay_name(path: Path, raw: bytes) -> str:
    """An overlay's file name: the image's, and a hash of that and its content, so that no other ever takes its place.

    An image's name that is too long is cut: names are unique by the hash.
    """
    name = path.name
    digest = hashlib.sha256(os.fsencode(name) + b"\0" + raw).hexdigest()
    while len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
        name = name[:-1]
    return f"{name}-{digest[:10]}.png"
