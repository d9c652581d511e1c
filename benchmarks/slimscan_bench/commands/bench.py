"""`slimscan bench`: latency of every stage, cold start and memory on this machine."""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slimscan_edge.commands.bundle_options import add_bundle_options, load_classifier
from slimscan_edge.errors import EXIT_DONE

if TYPE_CHECKING:
    from slimscan_bench.benchmark import Benchmark
    from slimscan_edge.classifier import Classifier

_DETAILS = """\
Each image is read, resized, run and decided on, again and again in turn; every time is kept and its median is given
with an interval. Then `slimscan predict` is started afresh several times, in turn with a bare script that only imports
NumPy, Pillow and the interpreter and runs the same model. Without images three drawn chests of typical X-ray sizes are
used: times hold for such sizes, answers mean nothing. Close other programs first.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = f"{parser.description}. {_DETAILS}"
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files, or folders of them")
    add_bundle_options(parser)
    parser.add_argument(
        "--repeats", type=_whole_number(1), default=50, metavar="N", help="rounds over all images (default: 50)"
    )
    parser.add_argument(
        "--warmup", type=_whole_number(0), default=5, metavar="N", help="rounds before, not kept (default: 5)"
    )
    parser.add_argument(
        "--cold-starts", type=_whole_number(0), default=5, metavar="N", help="fresh processes (default: 5; 0: none)"
    )
    parser.add_argument("--json", action="store_true", help="print the whole record as one JSON line instead")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the whole record into FILE (benchmark.json)")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a table or a JSON line, and write the record if a file is given."""
    from slimscan_bench.typical_images import write_typical_images
    from slimscan_edge.atomic import write_atomically
    from slimscan_edge.preprocess import image_files

    given = image_files(arguments.images)
    classifier = load_classifier(arguments)
    with nullcontext() if given else tempfile.TemporaryDirectory(prefix="slimscan-bench-") as folder:
        paths = write_typical_images(Path(folder)) if folder else given
        benchmark = _measure(arguments, classifier, paths, synthetic=not given)
    table = benchmark.to_table()
    print(json.dumps(table) if arguments.json else "\n".join(benchmark.to_lines()))
    if arguments.out:
        write_atomically(arguments.out, (json.dumps(table, indent=1) + "\n").encode())
        print(f"record: {arguments.out}", file=sys.stderr)
    return EXIT_DONE


def _measure(
    arguments: argparse.Namespace, classifier: "Classifier", paths: list[Path], *, synthetic: bool
) -> "Benchmark":
    from slimscan_bench.benchmark import Benchmark, describe_image
    from slimscan_bench.cold_start import measure_cold_starts
    from slimscan_bench.environment import read_environment
    from slimscan_bench.latency import measure_latency
    from slimscan_edge.locate import locate_bundle

    bundle, interpreter = classifier.bundle, classifier.interpreter
    bundle_path = locate_bundle(arguments.bundle).path
    images = tuple(describe_image(path) for path in paths)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    before = read_environment(interpreter=interpreter.backend)
    samples = measure_latency(
        classifier,
        paths,
        warmup=arguments.warmup,
        repeats=arguments.repeats,
        progress=_progress(f"rounds over {len(paths)} images", arguments.warmup + arguments.repeats),
    )
    cold_starts = measure_cold_starts(
        bundle,
        paths[0],
        bundle_path=bundle_path,
        threads=interpreter.threads,
        runs=arguments.cold_starts,
        progress=_progress("pairs of fresh processes", arguments.cold_starts + 1),
    )
    return Benchmark(
        command=_command(arguments, interpreter.threads),
        started=started,
        bundle_id=bundle.manifest.bundle_id,
        bundle_sha256=bundle.sha256,
        bundle_size_bytes=bundle_path.stat().st_size,
        model_size_bytes=len(bundle.model),
        threads=interpreter.threads,
        warmup=arguments.warmup,
        synthetic=synthetic,
        images=images,
        samples=samples,
        cold_starts=cold_starts,
        environment=before,
        environment_after=read_environment(interpreter=interpreter.backend),
    )


def _command(arguments: argparse.Namespace, threads: int) -> str:
    """The command line that measures the same again: what was left to defaults is spelt out."""
    words = ["slimscan", "bench", *map(str, arguments.images)]
    words += ["--bundle", str(arguments.bundle)] if arguments.bundle else []
    words += ["--threads", str(threads), *(["--allow-failed"] if arguments.allow_failed else [])]
    for name in ("repeats", "warmup", "cold_starts"):
        words += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    return shlex.join(words)


def _progress(what: str, total: int) -> Callable[[int], None]:
    """Count up in place on a terminal; elsewhere one line at the end."""

    def show(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} of {total} {what}", end="" if done < total else "\n", file=sys.stderr, flush=True)
        elif done == total:
            print(f"{total} {what}", file=sys.stderr, flush=True)

    return show


def _whole_number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from {least}")
        return int(text)

    return parse
