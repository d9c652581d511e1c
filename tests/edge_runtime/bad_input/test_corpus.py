"""Files as they come from full cards, broken copies and hostile hands: one finding or one reason each, and no more."""

import json
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.cli import main
from slimscan_edge.errors import ImageError
from slimscan_edge.isolate import IsolatedDecoder
from slimscan_edge.preprocess import MAX_PIXELS, PreprocessSpec, decode
from slimscan_edge.stream import predict_each

SPEC = PreprocessSpec(height=32, width=32)


@pytest.fixture(scope="module")
def files(encode, encode_dicom) -> dict[str, bytes]:
    """A picture of some ten kilobytes or more in each format."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (150, 120), np.uint8))
    deep = rng.integers(0, 4096, (90, 80), np.uint16)
    return {
        "jpeg": encode(noise, "JPEG"),
        "progressive.jpeg": encode(noise.convert("RGB"), "JPEG", progressive=True),
        "png": encode(noise, "PNG"),
        "tiff": encode(noise, "TIFF"),
        "lzw.tiff": encode(noise, "TIFF", compression="tiff_lzw"),
        "bmp": encode(noise, "BMP"),
        "dcm": encode_dicom(deep, BitsStored=12),
        "lossless.dcm": encode_dicom(deep, "1.2.840.10008.1.2.4.70", BitsStored=12),
        "ls.dcm": encode_dicom(deep, "1.2.840.10008.1.2.4.80", BitsStored=12),
        "2000.dcm": encode_dicom(deep, "1.2.840.10008.1.2.4.90", BitsStored=12),
        "rle.dcm": encode_dicom(deep, "1.2.840.10008.1.2.5", BitsStored=12),
    }


FORMATS = [
    "jpeg",
    "progressive.jpeg",
    "png",
    "tiff",
    "lzw.tiff",
    "bmp",
    "dcm",
    "lossless.dcm",
    "ls.dcm",
    "2000.dcm",
    "rle.dcm",
]


def square_png(side: int) -> bytes:
    """A black PNG of eight bits a pixel, packed row by row as far as deflate goes."""
    packer, row = zlib.compressobj(9), bytes(1 + side)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">LLBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))
        for name, content in chunks
    )


def decided(raw: bytes) -> str:
    """`read`, or the reason, which is one line that begins with the picture's name."""
    try:
        picture = decode(raw, SPEC, name="it")
    except ImageError as exc:
        reason = str(exc)
    else:
        return "read" if (picture.mode, picture.width > 0) == ("L", True) else "not what was asked for"
    assert re.fullmatch(r"it (is|has|holds|needs) .+", reason)
    return reason


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_truncated_at_every_kilobyte_it_is_refused(files, name):
    raw = files[name]
    assert decided(raw) == "read"
    assert len(raw) > 8 * 1024
    for length in range(0, len(raw) - 64, 1024):
        outcome = decided(raw[:length])
        assert outcome != "read", f"{length} of {len(raw)} bytes"
        assert outcome == "it is empty" or "damaged" in outcome or "not a readable" in outcome or "no pixel" in outcome


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_with_a_single_byte_flipped_it_is_read_or_refused(files, name):
    raw = files[name]
    step = max(1, len(raw) // 400)
    positions = {*range(400), *range(400, len(raw), step)}
    outcomes = set()
    for position in positions:
        flipped = bytearray(raw)
        flipped[position] ^= 0xFF
        outcomes.add(decided(bytes(flipped)) == "read")
    assert False in outcomes  # damage to a header is seen


@pytest.mark.parametrize("suffix", [".jpeg", ".png", ".tiff", ".bmp", ".dcm", ".txt", ""])
def test_a_wrong_extension_changes_nothing(files, tmp_path, suffix):
    for name in ("jpeg", "png", "dcm"):
        path = tmp_path / f"picture{suffix}"
        path.write_bytes(files[name])
        assert (np.asarray(decode(path, SPEC)) == np.asarray(decode(files[name], SPEC))).all()


def test_a_square_of_13000_pixels_in_160_kilobytes_is_refused_before_it_is_unpacked():
    raw = square_png(13_000)
    assert len(raw) < 170_000
    with IsolatedDecoder(memory_bytes=80 * 2**20) as decoder:  # where it would not fit in
        with pytest.raises(ImageError, match=rf"^it has 13000x13000 pixels, more than the {MAX_PIXELS:,} allowed$"):
            decoder.decode(raw, SPEC, name="it")
        assert decoder.decode(square_png(1000), SPEC).size == (125, 125)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert "13000x13000 pixels" in decided(raw)


@pytest.mark.parametrize("words", [(), ("--isolate",)], ids=["here", "isolated"])
def test_bad_files_never_stop_the_good_ones(files, encode, encode_dicom, tmp_path, golden_bundle_path, capsys, words):
    bad = {
        "a.png": b"",
        "c.dcm": files["dcm"][:600],
        "e.jpeg": files["jpeg"][:2000],
        "g.dcm": encode_dicom(np.zeros((9, 9), np.uint16), Modality="CT"),
        "i.png": square_png(6000),
        "k.bmp": b"BM" + bytes(200),
        "m.tiff": encode(np.zeros((9, 9), np.uint8), "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))]),
    }
    good = {"b.png": files["png"], "d.jpeg": files["jpeg"], "f.dcm": files["ls.dcm"], "n.tiff": files["tiff"]}
    for name, raw in (bad | good).items():
        (tmp_path / name).write_bytes(raw)
    code = main(["predict", str(tmp_path), "--json", "--bundle", str(golden_bundle_path), *words])
    said = capsys.readouterr()
    answers = {Path(answer["file"]).name: answer for answer in map(json.loads, said.out.splitlines())}
    assert code == 2
    assert list(answers) == sorted(bad | good)
    assert {name for name, answer in answers.items() if answer["decision"] == "rejected"} == set(bad)
    reasons = {name: answers[name]["reason"].removeprefix(f"{tmp_path / name} ") for name in bad}
    assert reasons["a.png"] == "is empty"
    assert reasons["c.dcm"].startswith(("is damaged", "is DICOM that holds no pixel data"))
    assert reasons["e.jpeg"].startswith("is damaged or incomplete")
    assert reasons["g.dcm"].startswith("is DICOM of modality 'CT'")
    assert reasons["i.png"] == f"has 6000x6000 pixels, more than the {MAX_PIXELS:,} allowed"
    assert reasons["m.tiff"].startswith("holds more than one picture")
    assert "Traceback" not in said.err


def test_what_is_read_is_answered(files, tmp_path, classifier):
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    decisions = {path.name: finding.decision for path, finding in predict_each(classifier, sorted(tmp_path.iterdir()))}
    assert set(decisions) == set(FORMATS)
    assert "rejected" not in decisions.values()
