"""Many images, one answer each: a bad one is rejected and never stops the others."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TypeAlias

from PIL import Image

from slimscan_edge.classifier import Classifier, Finding
from slimscan_edge.errors import ImageError
from slimscan_edge.preprocess import PreprocessSpec, decode

DECODED_AHEAD = 2
"""Images read while the network is at work: enough to keep it busy, and little memory, as they are reduced."""

Decode: TypeAlias = Callable[[Path, PreprocessSpec], Image.Image]
"""`slimscan_edge.preprocess.decode`, or an `IsolatedDecoder`'s."""
_Decoded: TypeAlias = tuple[Path, Future[tuple[Image.Image, float]]]


def predict_each(
    classifier: Classifier, paths: Iterable[Path], *, decode: Decode = decode
) -> Iterator[tuple[Path, Finding]]:
    """Answer for each image in turn, reading the next ones in a second thread meanwhile.

    Args:
        classifier: What answers.
        paths: Image files; taken as they are needed.
        decode: What reads them; it is only called in the second thread.

    Yields:
        Each path and its finding, in order; `rejected` with the reason when the image cannot be read.
    """
    spec, bundle_id = classifier.manifest.preprocess, classifier.manifest.bundle_id
    remaining = iter(paths)
    waiting: deque[_Decoded] = deque()
    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode")
    try:
        while True:
            for path in islice(remaining, DECODED_AHEAD + 1 - len(waiting)):
                waiting.append((path, reader.submit(_timed, decode, path, spec)))
            if not waiting:
                return
            path, decoded = waiting.popleft()
            try:
                image, decode_ms = decoded.result()
            except ImageError as exc:
                yield path, Finding.rejected(str(exc), bundle_id=bundle_id)
            else:
                yield path, classifier.answer(image, decode_ms=decode_ms)
    finally:
        reader.shutdown(cancel_futures=True)


def _timed(decode: Decode, path: Path, spec: PreprocessSpec) -> tuple[Image.Image, float]:
    start = perf_counter()
    image = decode(path, spec)
    return image, (perf_counter() - start) * 1e3
