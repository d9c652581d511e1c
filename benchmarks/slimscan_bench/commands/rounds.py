"""What the commands of measurements share: notes, and how far they are."""

import sys
from collections.abc import Callable


def counted(what: str, total: int) -> Callable[[int], None]:
    """Count up in place on a terminal; elsewhere one line at the end."""

    def show(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} of {total} {what}", end="" if done < total else "\n", file=sys.stderr, flush=True)
        elif done == total:
            print(f"{total} {what}", file=sys.stderr, flush=True)

    return show


def note(text: str) -> None:
    """Say something that is no result."""
    print(text, file=sys.stderr, flush=True)
