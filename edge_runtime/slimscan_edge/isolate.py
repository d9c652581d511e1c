"""Decoding apart: pictures from outside are parsed in a child process that may crash, hang or ask for too much.

Parsers of pictures are the largest body of native code that meets foreign bytes. In `IsolatedDecoder` they run in a
child that is bounded in memory and time and may write no file; this process reads a file's bytes and gets pixels back,
and never looks into either. Whatever the child does ends in the picture or in one `ImageError`, and the next picture
finds a new child if the last one is gone.

Example:
    >>> with IsolatedDecoder() as decoder:
    ...     picture = decoder.decode("upload.jpeg", classifier.manifest.preprocess)
    ...     finding = classifier.predict(picture)

The bounds are those of Linux. The memory limit is RLIMIT_DATA, which counts what a process can write to (since Linux
4.7), and not RLIMIT_AS, which also counts the text of every shared library and the address space that allocators and
threads only reserve: the same picture would need another limit on every machine.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import asdict
from time import monotonic
from typing import Any, Self

from PIL import Image

from slimscan_edge.errors import ImageError, MachineError
from slimscan_edge.preprocess import (
    EXTENT,
    MAX_PIXELS,
    PreprocessSpec,
    Refused,
    decode_or_refuse,
    display_name,
    printable,
    read_source,
)

MEMORY_BYTES = 512 * 2**20
"""Default limit. Pictures of 32 megapixels were seen to need 256 to 448 MiB, grey JPEG 2000 of 16 bits in DICOM nearly
512; only JPEG 2000 and lossless JPEG in colour need more, up to 1024, and are refused when they are that large."""
SECONDS = 60.0
"""Default limit, of the clock on the wall. JPEG 2000 takes longest: 4 s for 32 grey megapixels on one x86 core."""
START_SECONDS = 60.0

_REQUEST = struct.Struct("<II")  # lengths of the specification (JSON) and of the file, which follow
_REPLY = struct.Struct("<BIII")  # what it is; length of words, which follow; width and height of pixels after these
_READY, _PICTURE, _REFUSED = range(3)
_MOST_WORDS = 1000
_SECONDS_TO_END = 2.0
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from slimscan_edge import isolate; isolate.serve()"

_is_child = False
_keeping = threading.Lock()
_kept: "IsolatedDecoder | None" = None
_kept_by = 0


class IsolatedDecoder:
    """One child process that decodes many pictures, one after the other.

    A context manager; the child is started at once, and ended by `close`. Several threads may share one: their
    pictures take turns. For pictures side by side take one for each worker.
    """

    def __init__(self, *, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS) -> None:
        """Start the child.

        Args:
            memory_bytes: What it may allocate, its libraries' own needs included.
            seconds: What one picture may take.

        Raises:
            MachineError: It does not start, or this system cannot bound it.
        """
        self._memory_bytes = memory_bytes
        self._seconds = seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_closed = False
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; a picture that it is decoding is waited for."""
        with self._lock:
            self._is_closed = True
            self._stop()

    def decode(self, source: str | os.PathLike[str] | bytes, spec: PreprocessSpec, *, name: str = "") -> Image.Image:
        """Read an image in the child: `slimscan_edge.preprocess.decode` for files from outside.

        Args:
            source: A path or the bytes of a file.
            spec: Whose channels and input size count.
            name: What to call the image in a message; a path calls itself when empty.

        Returns:
            The same picture as `slimscan_edge.preprocess.decode` gives; in its `info` its extent and what is `True`.

        Raises:
            ImageError: The image is refused, took too long, or crashed the child.
            MachineError: No child can be started any more.
        """
        try:
            return self.decode_or_refuse(read_source(source), spec)
        except Refused as exc:
            raise ImageError(f"{name or display_name(source)} {exc}") from exc.__cause__

    def decode_or_refuse(self, raw: bytes, spec: PreprocessSpec) -> Image.Image:
        """As `decode`, with a reason that does not begin with the image's name.

        Raises:
            Refused: For one of the reasons of `slimscan_edge.preprocess`.
            MachineError: As for `decode`.
        """
        with self._lock:
            if self._is_closed:
                raise ValueError("the decoder is closed")
            if self._child is None:
                self._start()
            return self._ask(raw, spec)

    def _ask(self, raw: bytes, spec: PreprocessSpec) -> Image.Image:
        deadline = monotonic() + self._seconds
        specification = json.dumps(asdict(spec)).encode()
        try:
            self._send(_REQUEST.pack(len(specification), len(raw)), deadline)
            self._send(specification, deadline)
            self._send(raw, deadline)
            return self._answer("L" if spec.channels == 1 else "RGB", deadline)
        except Refused:
            raise
        except TimeoutError as exc:
            self._stop(at_once=True)
            raise Refused(f"took longer to decode than the {self._seconds:g} s allowed") from exc
        except OSError as exc:
            raise Refused(f"crashed the decoder ({self._stop()}); copy or export it again") from exc
        except BaseException:
            self._stop(at_once=True)  # the next answer would be read from the middle of this one
            raise

    def _answer(self, mode: str, deadline: float) -> Image.Image:
        """What the child says, believed no further than it has to be."""
        kind, length, width, height = _REPLY.unpack(self._receive(_REPLY.size, deadline))
        if length > _MOST_WORDS or kind not in (_PICTURE, _REFUSED):
            raise ConnectionError("an answer that makes no sense")
        words = self._receive(length, deadline).decode("utf-8", "replace")
        if kind == _REFUSED:
            raise Refused(printable(words, most=_MOST_WORDS))
        if not 0 < width * height <= MAX_PIXELS:
            raise ConnectionError("a picture that makes no sense")
        picture = Image.frombytes(mode, (width, height), bytes(self._receive(width * height * len(mode), deadline)))
        picture.info.update(_from_words(words))
        return picture

    def _send(self, content: bytes, deadline: float) -> None:
        assert self._socket is not None
        self._socket.settimeout(max(1e-3, deadline - monotonic()))
        self._socket.sendall(content)

    def _receive(self, size: int, deadline: float) -> bytearray:
        assert self._socket is not None
        content, filled = bytearray(size), 0
        while filled < size:
            self._socket.settimeout(max(1e-3, deadline - monotonic()))
            received = self._socket.recv_into(memoryview(content)[filled:])
            if not received:
                raise ConnectionError("the child closed the connection")
            filled += received
        return content

    def _start(self) -> None:
        here, there = socket.socketpair()
        with there:
            try:
                bounds = map(str, (there.fileno(), self._memory_bytes, self._seconds))
                self._child = subprocess.Popen(
                    [sys.executable, "-B", "-P", "-c", _CHILD, json.dumps(_module_search_path()), *bounds],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[there.fileno()],
                    # OpenBLAS takes memory for each thread, and a decoder has no use for any
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                )
            except (OSError, ValueError) as exc:
                here.close()
                raise MachineError(f"no process can be started to decode pictures apart ({exc})") from exc
        self._socket = here
        try:
            (kind,) = self._receive(1, monotonic() + START_SECONDS)
        except OSError as exc:
            raise MachineError(
                f"the process that decodes pictures apart does not start ({self._stop()}); it needs Linux"
            ) from exc
        assert kind == _READY

    def _stop(self, *, at_once: bool = False) -> str:
        """End the child, if it has not ended by itself, and say how it did."""
        child, self._child = self._child, None
        if self._socket is not None:
            self._socket.close()  # which tells it to end
        if child is None:
            return "it had ended"
        if at_once:
            child.kill()
        try:
            code = child.wait(timeout=_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return "it did not answer"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _module_search_path() -> list[str]:
    """What of `sys.path` imports look at, which pass over whatever else is in it."""
    return [entry for entry in sys.path if isinstance(entry, str)]


def is_child() -> bool:
    """Whether this process is the child of an `IsolatedDecoder`."""
    return _is_child


def decode_apart(raw: bytes, spec: PreprocessSpec) -> Image.Image:
    """Decode by a child that this process keeps for codecs that end the process they run in, as some do on damage.

    Raises:
        Refused: For one of the reasons of `slimscan_edge.preprocess`.
        MachineError: No child can be started.
    """
    global _kept, _kept_by
    with _keeping:
        if _kept is None or _kept_by != os.getpid():  # a fork must not talk to its parent's child
            _kept, _kept_by = IsolatedDecoder(), os.getpid()
        decoder = _kept
    return decoder.decode_or_refuse(raw, spec)


def serve() -> None:
    """The child: bound itself, then decode whatever comes, until the connection is closed."""
    global _is_child
    _is_child = True
    descriptor, memory_bytes, seconds = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    _bound(memory_bytes)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's goes to the parent too, which knows what to do
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rwb") as stream:
        stream.write(bytes([_READY]))
        stream.flush()
        while lengths := stream.read(_REQUEST.size):
            specification, raw = (stream.read(length) for length in _REQUEST.unpack(lengths))
            # Should the parent be gone by then, nobody else would end a decoder that hangs.
            signal.setitimer(signal.ITIMER_REAL, seconds + _SECONDS_TO_END)
            stream.write(_reply(raw, PreprocessSpec(**json.loads(specification))))
            stream.flush()
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def _bound(memory_bytes: int) -> None:
    import resource  # not on every system

    for limit, most in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),  # it would hold a patient's picture
    ):
        resource.setrlimit(limit, (most, most))


def _reply(raw: bytes, spec: PreprocessSpec) -> bytes:
    """A picture with what its `info` says of it in words, or a reason."""
    try:
        picture = decode_or_refuse(raw, spec)
    except Refused as exc:
        reason = str(exc).encode("utf-8", "replace")[:_MOST_WORDS]
        return _REPLY.pack(_REFUSED, len(reason), 0, 0) + reason
    words = _to_words(picture.info).encode("utf-8", "replace")[:_MOST_WORDS]
    return _REPLY.pack(_PICTURE, len(words), *picture.size) + words + picture.tobytes()


def _to_words(info: dict[str | tuple[int, int], Any]) -> str:
    """The extent of a reduced picture, and what is true of it."""
    extent = info.get(EXTENT)
    stated = [f"{EXTENT}={extent[0]!r}x{extent[1]!r}"] if isinstance(extent, tuple) else []
    return " ".join(stated + [str(key) for key, value in info.items() if value is True])


def _from_words(words: str) -> dict[str | tuple[int, int], Any]:
    """What the child says of a picture; an extent that is none of this picture plays no part where it is asked for."""
    info: dict[str | tuple[int, int], Any] = {}
    for word in words.split():
        key, is_extent, sides = word.partition("=")
        if is_extent:
            width, _, height = sides.partition("x")
            try:
                info[key] = float(width), float(height)
            except ValueError as exc:
                raise ConnectionError("a picture that makes no sense") from exc
        else:
            info[key] = True
    return info
