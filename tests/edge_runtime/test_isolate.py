import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_edge import isolate
from slimscan_edge.colour import IN_COLOUR
from slimscan_edge.errors import ImageError, MachineError
from slimscan_edge.isolate import IsolatedDecoder
from slimscan_edge.preprocess import PreprocessSpec, decode, extent_of

SPEC = PreprocessSpec(height=8, width=8)

# A child that does what the file tells it to: what a codec could be brought to by a hostile one.
OBEDIENT = """
import json, os, signal, sys, time
sys.path[:] = json.loads(sys.argv[1])
from slimscan_edge import isolate
honest = isolate._reply

def obey(raw, spec):
    if raw == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if raw == b"leave":
        os._exit(3)
    if raw == b"hang":
        time.sleep(600)
    if raw == b"answer too much":
        return isolate._REPLY.pack(isolate._PICTURE, 0, 2**31, 2**31)
    if raw == b"answer at length":
        return isolate._REPLY.pack(isolate._REFUSED, 2**31, 0, 0)
    if raw == b"answer nothing":
        return isolate._REPLY.pack(isolate._PICTURE, 0, 0, 0)
    if raw == b"answer nonsense":
        return isolate._REPLY.pack(9, 0, 1, 1)
    if raw == b"answer half":
        os.write(int(sys.argv[2]), isolate._REPLY.pack(isolate._PICTURE, 0, 8, 8))
        os._exit(0)
    if raw == b"mark":
        return isolate._REPLY.pack(isolate._PICTURE, 5, 1, 1) + b"one 2" + bytes(1)
    if raw == b"talk":
        reason = b"is bad" + bytes([27, 10]) + b"rm -rf" + bytes([255])
        return isolate._REPLY.pack(isolate._REFUSED, len(reason), 0, 0) + reason
    return honest(raw, spec)

isolate._reply = obey
isolate.serve()
"""


@pytest.fixture(scope="module")
def decoder():
    with IsolatedDecoder() as started:
        yield started


@pytest.fixture
def obedient(monkeypatch):
    monkeypatch.setattr(isolate, "_CHILD", OBEDIENT)
    with IsolatedDecoder(seconds=60) as started:
        yield started


@pytest.mark.parametrize("channels", [1, 3])
def test_its_pictures_are_those_that_are_decoded_here(decoder, encode, encode_dicom, tmp_path, channels):
    spec = PreprocessSpec(height=8, width=12, channels=channels)
    rng = np.random.default_rng(0)
    files = [
        encode(rng.integers(0, 255, (91, 71, 3), np.uint8), "JPEG"),
        encode(rng.integers(0, 65535, (9, 70), np.uint16), "PNG"),
        encode_dicom(rng.integers(0, 4095, (30, 30), np.uint16)),
    ]
    for raw in files:
        path = tmp_path / "picture"
        path.write_bytes(raw)
        here = decode(raw, spec)
        for source in (raw, path, str(path)):
            apart = decoder.decode(source, spec)
            assert (apart.mode, apart.size) == (here.mode, here.size)
            assert (np.asarray(apart) == np.asarray(here)).all()
            assert extent_of(apart) == extent_of(here)


def test_its_refusals_are_those_from_here(decoder, encode, tmp_path):
    (tmp_path / "torn.jpeg").write_bytes(encode(np.zeros((64, 64), np.uint8), "JPEG")[:300])
    (tmp_path / "none.png").write_bytes(b"")
    for source in (tmp_path / "torn.jpeg", tmp_path / "none.png", tmp_path / "absent", tmp_path, b"letter"):
        with pytest.raises(ImageError) as here:
            decode(source, SPEC)
        with pytest.raises(ImageError) as apart:
            decoder.decode(source, SPEC)
        assert str(apart.value) == str(here.value)


def test_a_name_is_passed_on_whatever_its_bytes(decoder):
    for name in ("upload 7.png", "x\udcff.png", "two\nlines"):
        with pytest.raises(ImageError) as refused:
            decoder.decode(b"letter", SPEC, name=name)
        assert str(refused.value).startswith(f"{name} is not a readable image")


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (b"crash", r"crashed the decoder \(SIGSEGV\)"),
        (b"leave", r"crashed the decoder \(exit code 3\)"),
        (b"answer too much", r"crashed the decoder"),
        (b"answer at length", r"crashed the decoder"),
        (b"answer nothing", r"crashed the decoder"),
        (b"answer nonsense", r"crashed the decoder"),
        (b"answer half", r"crashed the decoder \(exit code 0\)"),
    ],
)
def test_a_crash_is_one_refusal_and_the_next_picture_is_decoded(obedient, encode, order, reason):
    good = encode(np.full((8, 8), 200, np.uint8), "PNG")
    with pytest.raises(ImageError, match=f"^a.png {reason}"):
        obedient.decode(order, SPEC, name="a.png")
    assert (np.asarray(obedient.decode(good, SPEC)) == 200).all()


def test_what_takes_too_long_is_refused_and_the_next_picture_is_decoded(obedient, encode, monkeypatch):
    good = encode(np.full((8, 8), 200, np.uint8), "PNG")
    monkeypatch.setattr(obedient, "_seconds", 0.5)
    with pytest.raises(ImageError, match=r"^a.png took longer to decode than the 0.5 s allowed$"):
        obedient.decode(b"hang", SPEC, name="a.png")
    monkeypatch.setattr(obedient, "_seconds", 60)
    assert (np.asarray(obedient.decode(good, SPEC)) == 200).all()


def test_what_the_child_says_is_not_trusted_to_be_one_line(obedient):
    with pytest.raises(ImageError) as refused:
        obedient.decode(b"talk", SPEC)
    assert str(refused.value) == "the image is bad? rm -rf\N{REPLACEMENT CHARACTER}"


def test_what_is_true_of_a_picture_comes_with_it(decoder, obedient, encode):
    assert obedient.decode(b"mark", SPEC).info == {"one": True, "2": True}
    grey, coloured = Image.new("RGB", (40, 40), (90, 90, 90)), Image.new("RGB", (40, 40), (200, 30, 30))
    coloured.paste((30, 30, 200), (0, 0, 20, 40))
    assert decoder.decode(encode(grey, "PNG"), SPEC).info == {}
    assert decoder.decode(encode(coloured, "PNG"), SPEC).info == {IN_COLOUR: True}
    assert decode(encode(coloured, "PNG"), SPEC).info[IN_COLOUR] is True


def test_a_picture_that_needs_too_much_memory_is_refused_and_a_smaller_one_is_not(encode):
    large = encode(np.zeros((5000, 6000), np.uint8), "PNG")
    small = encode(np.zeros((500, 600), np.uint8), "PNG")
    full = PreprocessSpec(height=8, width=8, channels=3, jpeg_oversample=0)
    with IsolatedDecoder(memory_bytes=96 * 2**20) as decoder:
        with pytest.raises(ImageError, match="needs more memory to be decoded than there is"):
            decoder.decode(large, full)
        assert decoder.decode(small, full).size == (600, 500)


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="this system does not tell a process's limits")
def test_the_child_is_bounded(decoder):
    limits = Path(f"/proc/{decoder._child.pid}/limits").read_text()
    bounds = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert bounds["Max data size"] == [str(isolate.MEMORY_BYTES)] * 2
    assert bounds["Max file size"] == bounds["Max core file size"] == ["0", "0"]


def test_one_child_serves_many_pictures(encode):
    raw = encode(np.zeros((40, 40), np.uint8), "PNG")
    with IsolatedDecoder() as decoder:
        child = decoder._child.pid
        for _ in range(50):
            decoder.decode(raw, SPEC)
        assert decoder._child.pid == child


def test_threads_that_share_one_get_each_its_own_picture(decoder, encode):
    raws = [encode(np.full((16, 16), level, np.uint8), "PNG") for level in range(0, 250, 5)]
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda raw: decoder.decode(raw, SPEC), raws))
    assert [int(np.asarray(picture)[0, 0]) for picture in pictures] == list(range(0, 250, 5))


def test_the_child_ends_with_its_decoder(encode):
    with IsolatedDecoder() as decoder:
        child = decoder._child
    assert child.poll() is not None
    with pytest.raises(ValueError, match="closed"):
        decoder.decode(encode(np.zeros((8, 8), np.uint8), "PNG"), SPEC)
    decoder.close()


@pytest.fixture
def interruptible():
    """A shell starts what runs in its background with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_waiting_leaves_no_half_answer(obedient, encode):
    good = encode(np.full((8, 8), 200, np.uint8), "PNG")
    interrupt = threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        obedient.decode(b"hang", SPEC)
    interrupt.join()
    assert (np.asarray(obedient.decode(good, SPEC)) == 200).all()


def test_the_terminals_interrupt_does_not_end_the_child(decoder, encode):
    os.kill(decoder._child.pid, signal.SIGINT)
    time.sleep(0.1)
    assert decoder.decode(encode(np.zeros((8, 8), np.uint8), "PNG"), SPEC).size == (8, 8)


@pytest.mark.parametrize("executable", ["/bin/false", "/nonexistent/python"])
def test_a_child_that_does_not_start_is_told(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(MachineError, match="decode"):
        IsolatedDecoder()


def test_a_picture_comes_back_ready_for_a_classifier(decoder, classifier, encode):
    raw = encode(np.full((90, 90), 220, np.uint8), "PNG")
    picture = decoder.decode(raw, classifier.manifest.preprocess)
    assert isinstance(picture, Image.Image)
    assert classifier.predict(picture).logit == classifier.predict(raw).logit
