"""What the commands of measurements share: numbers of rounds, and how far they are."""

import argparse
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


def whole_number(least: int) -> Callable[[str], int]:
    """A type of argument: a whole number from the least one on."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from {least}")
        return int(text)

    return parse
