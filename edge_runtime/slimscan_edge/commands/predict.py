"""`slimscan predict`: findings for image files and folders."""

import argparse
import contextlib
import functools
import math
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimscan_edge.commands.bundle_options import add_bundle_options, load_classifier
from slimscan_edge.errors import EXIT_BAD_INPUT, EXIT_DONE, ImageError, InputError
from slimscan_edge.program.faults import one_line
from slimscan_edge.records import to_json

if TYPE_CHECKING:
    from PIL.Image import Image

    from slimscan_edge.classifier import Classifier, Finding
    from slimscan_edge.commands.overlay_files import OverlayFiles
    from slimscan_edge.preprocess import PreprocessSpec
    from slimscan_edge.stream import Decode

_DETAILS = """\
Folders are searched in depth and links followed; images are known by their suffix or by their content, and what is
passed over is counted on stderr.
One line an image on stdout: the decision (positive, negative, refer or rejected), the probability of the positive
label or the reason, and the file. An image that cannot be read is rejected with the reason and never stops the
others; the exit code is then 2. It may be empty, of another format, too large (32 megapixels or 128 MiB), of several
pages, damaged or cut off, DICOM without the 'dicom' extra (pip install 'slimscan[dicom]'), of another modality, body
part or view or in an encoding that is not read; with --isolate also one that crashed the process that decodes, or took
it more than a minute. A picture that is read but is no X-ray such as the bundle knows is rejected too, and has no
probability: it is in colour, a strip, blank, turned, a negative, flat (one even shade, as documents are), smooth (no
detail), grainy, unlike a frontal chest X-ray, dark or bright. JSON objects hold file, decision, label, probability,
logit, subtype, subtype_probability, reason, evidence (rows of the map, in logits), bundle, bundle_sha256, timings_ms,
overlay and not_a_medical_device; what an image has not is null.
"""
STANDARD_INPUT = Path("/dev/stdin")
"""What `-` stands for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = f"{parser.description}. {_DETAILS}"
    parser.add_argument(
        "images",
        nargs="+",
        type=lambda text: STANDARD_INPUT if text == "-" else Path(text),
        metavar="IMAGE",
        help="JPEG, PNG, TIFF, BMP or DICOM files, folders of them, or - for standard input",
    )
    add_bundle_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line instead")
    parser.add_argument(
        "--isolate",
        action="store_true",
        help="decode images in a process of its own that is bounded in memory and time: for files from outside",
    )
    parser.add_argument(
        "--overlay",
        type=Path,
        metavar="DIR",
        help="write each X-ray with its evidence map drawn on it into DIR as PNG, named by its name and content",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a finding for each image; exit code 2 when any was rejected."""
    from slimscan_edge.classifier import NOT_A_MEDICAL_DEVICE
    from slimscan_edge.files import find_images, passed_over_lines, unreadable_in_words

    for module in ("PIL", "pydicom"):  # on damaged files; what matters in them comes as a reason
        warnings.filterwarnings("ignore", module=module)
    _refuse_overlays_among(arguments.images, arguments.overlay)
    found = find_images(arguments.images)
    if not found.images:
        raise ImageError(unreadable_in_words(found.unreadable))
    refused = {Path(bad.path): bad.reason for bad in found.unreadable}
    paths = [*refused, *found.images]
    classifier = load_classifier(arguments)
    print(NOT_A_MEDICAL_DEVICE, file=sys.stderr)
    for line in passed_over_lines(found.passed_over):
        print(line, file=sys.stderr)
    standard_input = functools.cache(_standard_input)  # which can be read only once
    decisions: Counter[str] = Counter()
    with _decoder(isolated=arguments.isolate, standard_input=standard_input) as plain:
        decode = _refusing(refused, plain)
        overlays = _overlay_files(arguments.overlay, classifier, decode, standard_input)
        for path, finding, overlay in _findings(classifier, paths, decode, overlays):
            decisions[finding.decision] += 1
            if arguments.json:
                line = to_json(_as_json(path, finding, classifier, overlay))
            else:
                line = one_line(_as_text(path, finding, classifier))
            print(line, flush=True)
            _show_progress(decisions.total(), len(paths))
    counts = ", ".join(f"{count} {decision}" for decision, count in decisions.items())
    print(f"{len(paths)} images: {counts}", file=sys.stderr)
    if decisions["rejected"]:
        return EXIT_BAD_INPUT
    return overlays.exit_code if overlays else EXIT_DONE


@contextlib.contextmanager
def _decoder(*, isolated: bool, standard_input: Callable[[], bytes]) -> Iterator["Decode"]:
    """What reads images: here, or in a process of its own."""
    if isolated:
        from slimscan_edge.isolate import IsolatedDecoder

        with IsolatedDecoder() as decoder:
            yield _reading_also(standard_input, decoder.decode)
    else:
        from slimscan_edge.preprocess import decode

        yield _reading_also(standard_input, decode)


def _reading_also(standard_input: Callable[[], bytes], decode: "Decode") -> "Decode":
    def decoded(source: "Path | bytes", spec: "PreprocessSpec", *, name: str = "") -> "Image":
        if source == STANDARD_INPUT:
            return decode(standard_input(), spec, name=str(STANDARD_INPUT))
        return decode(source, spec, name=name)

    return decoded


def _standard_input() -> bytes:
    """All of it, or at most what is then refused as too large."""
    from slimscan_edge.preprocess import MAX_FILE_BYTES

    return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)


def _overlay_files(
    folder: Path | None, classifier: "Classifier", decode: "Decode", standard_input: Callable[[], bytes]
) -> "OverlayFiles | None":
    if folder is None:
        return None
    from slimscan_edge.commands.overlay_files import OverlayFiles
    from slimscan_edge.preprocess import read_source

    return OverlayFiles(
        folder, classifier, decode, lambda path: standard_input() if path == STANDARD_INPUT else read_source(path)
    )


def _findings(
    classifier: "Classifier", paths: list[Path], decode: "Decode", overlays: "OverlayFiles | None"
) -> Iterator[tuple[Path, "Finding", Path | None]]:
    """Each path with its finding and the overlay that was written for it, if any."""
    from slimscan_edge.stream import predict_each

    for path, finding in predict_each(classifier, paths, decode=decode):
        if overlays is None or finding.decision == "rejected":
            yield path, finding, None
        else:
            yield path, *overlays.write(path, finding)


def _refuse_overlays_among(images: list[Path], overlays: Path | None) -> None:
    for folder in images:
        if overlays is not None and os.path.isdir(folder) and overlays.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"overlays in {overlays} would be read as X-rays the next time, for {folder} is searched for images; "
                "choose a folder outside it"
            )


def _refusing(reasons: dict[Path, str], decode: "Decode") -> "Decode":
    """What reads images, but for the paths of which it is known already why they cannot be read."""

    def decoded(path: Path, *words: Any, **options: Any) -> "Image":
        if path in reasons:
            raise ImageError(reasons[path])
        return decode(path, *words, **options)

    return decoded


def _as_json(path: Path, finding: "Finding", classifier: "Classifier", overlay: Path | None) -> dict[str, Any]:
    from slimscan_edge.classifier import NOT_A_MEDICAL_DEVICE

    timings, rejected = finding.timings, finding.decision == "rejected"
    return {
        "file": str(path),
        "decision": finding.decision,
        "label": finding.label or None,
        "probability": None if rejected else finding.probability,
        "logit": None if rejected else finding.logit,
        "subtype": finding.subtype or None,
        "subtype_probability": finding.subtype_probability if finding.subtype else None,
        "reason": finding.reason or None,
        "evidence": None if rejected else finding.evidence.tolist(),
        "bundle": finding.bundle_id,
        "bundle_sha256": classifier.bundle.sha256,
        "timings_ms": None
        if rejected
        else {
            "decode": round(timings.decode_ms, 3),
            "resize": round(timings.resize_ms, 3),
            "invoke": round(timings.invoke_ms, 3),
            "decide": round(timings.decide_ms, 3),
            "total": round(timings.total_ms, 3),
        },
        "overlay": None if overlay is None else str(overlay),
        "not_a_medical_device": NOT_A_MEDICAL_DEVICE,
    }


def _as_text(path: Path, finding: "Finding", classifier: "Classifier") -> str:
    if math.isnan(finding.probability):
        return f"{finding.decision:8}  {finding.reason}"  # which begins with the file
    subtype = f", {finding.subtype} rather ({finding.subtype_probability:.2f})" if finding.subtype else ""
    return f"{finding.decision:8}  p({classifier.manifest.labels[1]}) = {finding.probability:.3f}{subtype}  {path}"


def _show_progress(done: int, total: int) -> None:
    """Count up on a terminal, unless the findings themselves are seen there."""
    if total > 1 and sys.stderr is not None and sys.stderr.isatty() and not sys.stdout.isatty():
        print(f"\r{done} of {total}", end="" if done < total else "\n", file=sys.stderr, flush=True)
