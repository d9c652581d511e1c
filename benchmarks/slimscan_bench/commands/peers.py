"""`slimscan peers IMAGES --out FOLDER`: slimscan beside other runtimes on the same files, and a report."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from slimscan_bench.commands.rounds import counted, note
from slimscan_edge.commands.bundle_options import add_bundle_options, load_classifier, whole_number
from slimscan_edge.errors import EXIT_DONE, EXIT_GATE_INCONCLUSIVE, InputError

if TYPE_CHECKING:
    from slimscan_bench.peers.comparison import PeerComparison

_DETAILS = """\
Peers are a plain LiteRT script, tflite-runtime, full TensorFlow, ONNX Runtime (float, and int8 by its own quantiser),
OpenVINO and MediaPipe Tasks. Each gets an environment of its own with pinned packages, made once in the cache folder
(about 4 GB in all; needs a package index), and a process of its own. They answer for every image in turn, round after
round, in several processes of each; then each is started afresh several times. Folders named like the bundle's labels
tell the truth of their images. FOLDER gets peers.json with every raw value and report.html. A peer that cannot be
installed or fails is listed with its reason. Exit code 3: the machine was too restless for the figures to mean
anything. Close other programs first.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = f"{parser.description}. {_DETAILS}"
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the record and the report go")
    add_bundle_options(parser)
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="ONNX twin, for ONNX Runtime and OpenVINO")
    parser.add_argument("--mobile", type=Path, metavar="FILE", help="three-channel twin, for MediaPipe Tasks")
    parser.add_argument("--only", nargs="+", default=[], metavar="PEER", help="these peers alone")
    parser.add_argument(
        "--processes", type=whole_number(1), default=3, metavar="N", help="of each peer, one after the other (3)"
    )
    parser.add_argument(
        "--repeats", type=whole_number(1), default=4, metavar="N", help="rounds in each that are kept (4)"
    )
    parser.add_argument(
        "--warmup", type=whole_number(0), default=1, metavar="N", help="rounds before in each, not kept (1)"
    )
    parser.add_argument(
        "--cold-starts", type=whole_number(0), default=10, metavar="N", help="fresh processes of each (10; 0: none)"
    )
    parser.add_argument("--ladder", type=Path, metavar="FILE", help="ladder.json of an export: its rows in the figures")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the record and the report, and print the table; 3 for an invalid run."""
    from slimscan_bench.peers.roster import chosen
    from slimscan_bench.peers.table import lines
    from slimscan_bench.report.ladder import read_ladder
    from slimscan_bench.report.page import write_report
    from slimscan_edge.atomic import write_atomically
    from slimscan_edge.records import to_json

    chosen(arguments.only)  # before the work
    ladder = read_ladder(arguments.ladder) if arguments.ladder else ()
    record = _measure(arguments)
    content = to_json(record.to_table(), separators=(",", ":"), allow_nan=True)
    try:  # written before it is printed, which fails where nobody reads
        write_atomically(arguments.out / "peers.json", content.encode() + b"\n")
        write_report(record, arguments.out / "report.html", ladder=ladder)
    finally:
        print("\n".join(lines(record)))
    print(f"report: {arguments.out / 'report.html'}")
    for reason in record.invalid:
        print(f"slimscan peers: INVALID: {reason}", file=sys.stderr)
    return EXIT_GATE_INCONCLUSIVE if record.invalid else EXIT_DONE


def _measure(arguments: argparse.Namespace) -> "PeerComparison":
    from slimscan_bench.peers.environments import environment_python
    from slimscan_bench.peers.measuring import PeersPlan, measure_peers
    from slimscan_bench.peers.roster import FOLDER, chosen
    from slimscan_edge.files import image_files
    from slimscan_edge.locate import locate_bundle
    from slimscan_train.pixels import cache_folder

    images = image_files(arguments.images, note=note)
    if not images:
        raise InputError("there is no image to measure on; give image files or folders of them")
    classifier = load_classifier(arguments)
    plan = PeersPlan(
        command=command_words(arguments, classifier.interpreter.threads),
        bundle_path=locate_bundle(arguments.bundle).path,
        onnx=arguments.onnx,
        mobile=arguments.mobile,
        names=chosen(arguments.only),
        processes=arguments.processes,
        warmup=arguments.warmup,
        repeats=arguments.repeats,
        cold_starts=arguments.cold_starts,
        scaling=True,
    )
    return measure_peers(
        classifier,
        images,
        plan,
        python_of=lambda peer: environment_python(FOLDER / peer.requirements, cache=cache_folder(), note=note),
        progress=counted,
        note=note,
    )


def command_words(arguments: argparse.Namespace, threads: int) -> str:
    """The command line that measures the same again, by the names of files and folders alone: records are published."""
    words = ["slimscan", "peers", *(path.resolve().name for path in arguments.images)]
    for flag in ("bundle", "onnx", "mobile", "out"):
        if path := getattr(arguments, flag):
            words += [f"--{flag}", path.resolve().name]
    words += ["--allow-failed"] if arguments.allow_failed else []
    words += ["--only", *arguments.only] if arguments.only else []
    words += ["--threads", str(threads)]
    for name in ("processes", "repeats", "warmup", "cold_starts"):
        words += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    return shlex.join(words)
