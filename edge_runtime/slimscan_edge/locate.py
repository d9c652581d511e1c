"""Which bundle a command uses when it is not told one."""

from dataclasses import dataclass
from pathlib import Path

from slimscan_edge.errors import BundleError

REFERENCE_FOLDER = Path(__file__).with_name("reference")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedBundle:
    """A bundle's file and how it came to be chosen, in words ("given with --bundle")."""

    path: Path
    chosen: str


def locate_bundle(given: Path | None) -> LocatedBundle:
    """Find the bundle to use: the given one, else the reference bundle that is shipped with slimscan.

    Raises:
        BundleError: None was given and this installation ships none.
    """
    if given is not None:
        return LocatedBundle(path=given, chosen="given with --bundle")
    shipped = sorted(REFERENCE_FOLDER.glob("*.slimscan"))
    if len(shipped) != 1:
        raise BundleError(
            f"this slimscan ships {len(shipped)} reference bundles, expected one; say which bundle with --bundle PATH"
        )
    return LocatedBundle(path=shipped[0], chosen="the reference bundle that is shipped with slimscan")
