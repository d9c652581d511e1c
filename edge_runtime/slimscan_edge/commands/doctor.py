"""`slimscan doctor`: is this machine ready, and what is missing."""

import argparse
import dataclasses

from slimscan_edge.commands.bundle_options import add_bundle_option
from slimscan_edge.errors import EXIT_DONE, EXIT_MACHINE
from slimscan_edge.program.faults import one_line
from slimscan_edge.records import to_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        f"{parser.description}. Looks at the packages, the bundle and its golden self-test; an optional part that is "
        "absent is told, a problem makes the exit code 4. Nothing is changed."
    )
    add_bundle_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object with `ready` and `checks` instead")


def run(arguments: argparse.Namespace) -> int:
    """Print each check; exit code 4 when there is a problem."""
    from slimscan_edge.checkup import check_up

    checks = []
    for check in check_up(arguments.bundle):
        checks.append(check)
        if not arguments.json:
            print(one_line(f"{check.status:8} {check.name:14} {check.detail}"), flush=True)
    problems = sum(check.status == "problem" for check in checks)
    if arguments.json:
        print(to_json({"ready": not problems, "checks": [dataclasses.asdict(check) for check in checks]}))
    else:
        print("\nready" if not problems else f"\nnot ready: {problems} problem{'s' if problems > 1 else ''} above")
    return EXIT_MACHINE if problems else EXIT_DONE
