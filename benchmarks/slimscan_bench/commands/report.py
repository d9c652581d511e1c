"""`slimscan report RECORD --out FILE`: the page of a benchmark that was taken here or on a device."""

import argparse
import json
import sys
from pathlib import Path

from slimscan_edge.errors import EXIT_DONE, InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        f"{parser.description}. RECORD is what slimscan bench --out wrote, on a device or here, or the peers.json of "
        "slimscan peers. The page needs no network and no other file."
    )
    parser.add_argument("record", type=Path, metavar="RECORD", help="a JSON file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page to write (report.html)")
    parser.add_argument("--ladder", type=Path, metavar="FILE", help="ladder.json of an export: its rows in the figures")
    parser.add_argument(
        "--publish",
        type=Path,
        metavar="FILE",
        help="also the record of a run of peers, thinned to be small",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from slimscan_bench.peers.comparison import PeerComparison
    from slimscan_bench.report.ladder import read_ladder
    from slimscan_bench.report.page import read_any_record, write_report
    from slimscan_edge.atomic import write_atomically

    record = read_any_record(arguments.record)
    if arguments.publish:
        if not isinstance(record, PeerComparison):
            raise InputError(f"--publish thins a run of peers, and {arguments.record} is none; leave it out")
        content = json.dumps(record.thinned().to_table(), separators=(",", ":"))
        write_atomically(arguments.publish, content.encode() + b"\n")
        print(f"record: {arguments.publish} ({arguments.publish.stat().st_size:,} bytes)", file=sys.stderr)
    write_report(record, arguments.out, ladder=read_ladder(arguments.ladder) if arguments.ladder else ())
    print(f"report: {arguments.out}")
    return EXIT_DONE
