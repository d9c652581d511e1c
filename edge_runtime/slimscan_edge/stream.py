"""Many images, one answer each: a bad one is rejected and never stops the others."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image

from slimscan_edge.classifier import Classifier, Finding
from slimscan_edge.errors import ImageError
from slimscan_edge.preprocess import PreprocessSpec, decode

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

DECODED_AHEAD = 2
"""Images read while the network is at work: enough to keep it busy, and little memory, as they are reduced."""

Decode: TypeAlias = Callable[..., Image.Image]
"""`slimscan_edge.preprocess.decode`, or an `IsolatedDecoder`'s: called with a path or bytes, and a specification."""
_Decoded: TypeAlias = tuple[Image.Image, float]


def predict_each(
    classifier: Classifier, paths: Iterable[Path], *, decode: Decode = decode
) -> Iterator[tuple[Path, Finding]]:
    """Answer for each image in turn, reading the next ones in a second thread meanwhile if there are any.

    Args:
        classifier: What answers.
        paths: Image files; taken as they are needed.
        decode: What reads them; it is called in one thread only.

    Yields:
        Each path and its finding, in order; `rejected` with the reason when the image cannot be read.
    """
    spec = classifier.manifest.preprocess
    remaining = iter(paths)
    first = list(islice(remaining, 2))
    reader = _reader() if len(first) > 1 else None
    if reader:
        yield from _reading_ahead(classifier, chain(first, remaining), decode, reader)
    else:
        for path in chain(first, remaining):
            yield path, _answer(classifier, path, functools.partial(_timed, decode, path, spec))


def _reader() -> "ThreadPoolExecutor | None":
    """A second thread; None where this process may not start one."""
    from concurrent.futures import ThreadPoolExecutor  # not at import: a single image starts sooner without it

    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode")
    try:
        reader.submit(int).result()
    except RuntimeError:
        return None
    return reader


def _reading_ahead(
    classifier: Classifier, paths: Iterator[Path], decode: Decode, reader: "ThreadPoolExecutor"
) -> Iterator[tuple[Path, Finding]]:
    waiting: deque[tuple[Path, Future[_Decoded]]] = deque()
    try:
        while True:
            for path in islice(paths, DECODED_AHEAD + 1 - len(waiting)):
                waiting.append((path, reader.submit(_timed, decode, path, classifier.manifest.preprocess)))
            if not waiting:
                return
            path, decoded = waiting.popleft()
            yield path, _answer(classifier, path, decoded.result)
    finally:
        reader.shutdown(cancel_futures=True)


def _answer(classifier: Classifier, path: Path, decoded: Callable[[], _Decoded]) -> Finding:
    try:
        image, decode_ms = decoded()
    except ImageError as exc:
        return Finding.rejected(str(exc), bundle_id=classifier.manifest.bundle_id)
    return classifier.answer(image, decode_ms=decode_ms, name=str(path))


def _timed(decode: Decode, path: Path, spec: PreprocessSpec) -> _Decoded:
    start = perf_counter()
    image = decode(path, spec)
    return image, (perf_counter() - start) * 1e3
