"""A seeded run over damaged pictures and bundles: each ends in an answer or in one documented reason.

Pictures go the way of `slimscan predict --isolate`: decoded in a child process, answered here. Bundles are parsed here.
Prints how many inputs ended how, and ends with exit code 1 after a crash, a hang, or a reason that nobody documented:

    python tests/edge_runtime/bad_input/mutations.py --count 20000

The same seed gives the same inputs; `--keep FOLDER` writes those that ended badly there. `make test` tries 3,000.
"""

import argparse
import io
import json
import random
import re
import struct
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from slimscan_edge.bundle import pack_bundle, parse_bundle, read_bundle
from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import BundleError, ImageError
from slimscan_edge.isolate import IsolatedDecoder

GOLDEN = Path(__file__).parents[2] / "golden" / "brightness-1.0.0.slimscan"
SECONDS = 60.0

REASONS = {
    "refused: empty": r"is empty(: it has .* pixels)?",
    "refused: not readable": r"is not a readable image; expected one of JPEG, PNG, TIFF, BMP, DICOM",
    "refused: too many pixels": r"has .* pixels,? .*allowed",
    "refused: several pictures": r"holds more than one picture; .*",
    "refused: damaged": r"is damaged or incomplete \(.+\); (copy or )?export it again",
    "refused: memory": r"needs more memory to be decoded than there is; make it smaller",
    "refused: inflates too far": r"unpacks to more than the .* bytes allowed",
    "refused: no pixel data": r"is DICOM that holds no pixel data; .*",
    "refused: not this DICOM": r"is DICOM (of|in|with|whose|FOR) .*",
    "refused: not this TIFF": r"is TIFF of .*",
}
"""The documented reasons of `slimscan_edge.preprocess`, without those that only a file's path can have."""
BAD = {"CRASHED": r"crashed the decoder .*", "HUNG": r"took longer to decode .*"}

Mutate = Callable[[random.Random, bytes, list[bytes]], bytes]


def seeds() -> dict[str, list[bytes]]:
    """Whole files to damage, by kind; small, so that damage hits what matters."""
    return {
        "JPEG": list(_jpegs()),
        "PNG": list(_pngs()),
        "TIFF": list(_tiffs()),
        "BMP": list(_bitmaps()),
        "DICOM": list(_dicoms()),
        "bundle": [GOLDEN.read_bytes()],
    }


def _encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _pictures() -> dict[str, Image.Image]:
    down, across = np.mgrid[0:30, 0:44]
    grey = Image.fromarray(np.rint(127.5 + 127.5 * np.sin(down / 7.0) * np.cos(across / 5.0)).astype(np.uint8))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 200)
    modes = {mode: grey.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F")}
    return {**modes, "I;16": deep}


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _jpegs() -> Iterator[bytes]:
    pictures = _pictures()
    for mode in ("L", "RGB", "CMYK"):
        yield _encoded(pictures[mode], "JPEG")
        yield _encoded(pictures[mode], "JPEG", progressive=True, exif=_turned())


def _pngs() -> Iterator[bytes]:
    pictures = _pictures()
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield _encoded(pictures[mode], "PNG")
    yield _encoded(pictures["P"], "PNG", transparency=3, exif=_turned())


def _tiffs() -> Iterator[bytes]:
    pictures = _pictures()
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F"):
        yield _encoded(pictures[mode], "TIFF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield _encoded(pictures["L"], "TIFF", compression=compression, exif=_turned())
    yield _encoded(pictures["RGB"], "TIFF", compression="jpeg")
    yield _encoded(pictures["1"], "TIFF", compression="group4")


def _bitmaps() -> Iterator[bytes]:
    pictures = _pictures()
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield _encoded(pictures[mode], "BMP")
    header = struct.pack("<2sLHHLLLLHHLLLLLL", b"BM", 1100, 0, 0, 1078, 40, 4, 2, 1, 8, 1, 22, 0, 0, 256, 0)
    yield header + bytes(level for level in range(256) for _ in range(4)) + b"\x04\x50\x00\x00\x03\x60\x01\x70\x00\x01"


_DICOM_FILES = (
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_jp2klossless.dcm",
    "JPEGLSNearLossless_08.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "JPGExtended.dcm",
    "examples_overlay.dcm",
    "image_dfl.dcm",
)


def _dicoms() -> Iterator[bytes]:
    """Files of pydicom's own, made radiographs by their modality; and two in lossless JPEG of 16 bits and 8."""
    from pydicom.data import get_testdata_file
    from pydicom.uid import JPEGLosslessSV1

    for name in _DICOM_FILES:
        path = get_testdata_file(name, download=False)
        if name == "examples_overlay.dcm":  # large, and its sequences are what is of interest
            yield as_radiograph(Path(path).read_bytes()[:6000])
        else:
            yield as_radiograph(Path(path).read_bytes())
    for name in ("MR_small.dcm", "JPEGLSNearLossless_08.dcm"):
        yield as_radiograph(_transcoded(get_testdata_file(name, download=False), JPEGLosslessSV1))


def as_radiograph(raw: bytes) -> bytes:
    """The same file, of modality CR."""
    value = rb"(\x08\x00\x60\x00(?:CS\x02\x00|\x02\x00\x00\x00)|\x00\x08\x00\x60CS\x00\x02)(?:CT|MR|NM|US)"
    return re.sub(value, rb"\1CR", raw)


def _transcoded(path: str, syntax: str) -> bytes:
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(path)
    if not reader.Read():
        raise OSError(f"GDCM does not read {path}")
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise OSError(f"GDCM does not encode {path} as {syntax}")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "transcoded.dcm"
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()
        return target.read_bytes()


# --- damage -----------------------------------------------------------------------------------------------------


def _flip(rng: random.Random, raw: bytes, _: list[bytes]) -> bytes:
    damaged = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _overwrite(rng: random.Random, raw: bytes, _: list[bytes]) -> bytes:
    at, length = rng.randrange(len(raw)), rng.choice((1, 2, 4, 8, 64))
    filling = rng.choice((b"\x00", b"\xff", b"\x7f", bytes([rng.randrange(256)])))
    return raw[:at] + (filling * length)[: len(raw) - at] + raw[at + length :]


def _renumber(rng: random.Random, raw: bytes, _: list[bytes]) -> bytes:
    """An extreme number where one may stand."""
    form = rng.choice(("<H", ">H", "<L", ">L"))
    most = 2 ** (8 * struct.calcsize(form)) - 1
    number = rng.choice((0, 1, 2, most, most - 1, most // 2, most // 2 + 1, len(raw), rng.randrange(most)))
    at = rng.randrange(max(1, min(len(raw), rng.choice((64, 512, len(raw))))))
    return (raw[:at] + struct.pack(form, min(number, most)) + raw[at + struct.calcsize(form) :])[: len(raw)]


def _truncate(rng: random.Random, raw: bytes, _: list[bytes]) -> bytes:
    return raw[: rng.randrange(len(raw))]


def _remove(rng: random.Random, raw: bytes, _: list[bytes]) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + raw[at + rng.choice((1, 2, 3, 7, 100)) :]


def _double(rng: random.Random, raw: bytes, _: list[bytes]) -> bytes:
    at, length = rng.randrange(len(raw)), rng.choice((1, 2, 12, 100, 1000))
    return raw[:at] + raw[at : at + length] * rng.choice((2, 3, 50)) + raw[at + length :]


def _insert(rng: random.Random, raw: bytes, _: list[bytes]) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + rng.randbytes(rng.choice((1, 2, 5, 40))) + raw[at:]


def _splice(rng: random.Random, raw: bytes, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return raw[: rng.randrange(len(raw))] + other[rng.randrange(len(other)) :]


MUTATIONS: tuple[Mutate, ...] = (_flip, _overwrite, _renumber, _truncate, _remove, _double, _insert, _splice)


def damaged(rng: random.Random, kind: str, whole: list[bytes]) -> bytes:
    """One input: a whole file with one to three kinds of damage."""
    raw = rng.choice(whole)
    if kind == "bundle" and rng.random() < 0.6:
        return _repacked(rng, raw)
    for _ in range(rng.choice((1, 1, 2, 3))):
        raw = rng.choice(MUTATIONS)(rng, raw, whole) or b"\0"
    return _with_right_checksums(raw) if kind == "PNG" and rng.random() < 0.7 else raw


def _with_right_checksums(png: bytes) -> bytes:
    """So that damage is met by what lies behind the check of each chunk."""
    mended, at = bytearray(png), 8
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">L", png, at)
        end = at + 8 + length
        if end + 4 > len(png):
            break
        struct.pack_into(">L", mended, end, zlib.crc32(mended[at + 4 : end]))
        at = end + 4
    return bytes(mended)


def _repacked(rng: random.Random, raw: bytes) -> bytes:
    """A bundle whose manifest is damaged and whose hashes and layout are right: what a check of bytes lets through."""
    bundle = parse_bundle(raw, name="golden")
    packed = pack_bundle(bundle.manifest, bundle.members)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    table = json.loads(files["manifest.json"])
    _damage_table(rng, table)
    # as slimscan writes it: of another form it would be refused before anything in it is looked at
    manifest = (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    files["manifest.json"] = _flip(rng, manifest, []) if rng.random() < 0.3 else manifest
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            archive.writestr(info, content)
    return buffer.getvalue()


def _damage_table(rng: random.Random, table: dict[str, object]) -> None:
    """Put something else somewhere, or take it away."""
    place: object = table
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = rng.choice(keys)
        inner = place[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
            place = inner
            continue
        strange = (None, True, -1, 0, 10**30, 1e308, float("nan"), "", "x" * 1000, "\0\ud800", [], {}, [[]], {"a": {}})
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = rng.choice((*strange, [inner], {"x": inner}, str(inner)))
        return


# --- what comes of it -------------------------------------------------------------------------------------------


def outcome_of_image(raw: bytes, classifier: Classifier, decoder: IsolatedDecoder) -> str:
    """`answered`, a documented reason's name, or what went wrong."""
    try:
        picture = decoder.decode(raw, classifier.manifest.preprocess, name="it")
    except ImageError as exc:
        reason = str(exc).removeprefix("it ")
        named = [name for name, form in {**REASONS, **BAD}.items() if re.fullmatch(form, reason)]
        return named[0] if named else f"UNDOCUMENTED: {reason}"
    finding = classifier.answer(picture, decode_ms=0.0)
    return "answered" if finding.decision in ("positive", "negative", "refer") else f"UNDOCUMENTED: {finding}"


def outcome_of_bundle(raw: bytes) -> str:
    """`accepted`, `refused`, or the error that should not have been raised."""
    try:
        parse_bundle(raw, name="it")
    except BundleError as exc:
        return "refused" if "\n" not in str(exc) else f"UNDOCUMENTED: {exc}"
    except Exception as exc:
        return f"CRASHED: {exc!r}"
    return "accepted"


def run(count: int, seed: int, keep: Path | None) -> bool:
    """Try them all and print the counts; whether every outcome is a documented one."""
    warnings.simplefilter("ignore")
    rng, files, counts = random.Random(seed), seeds(), Counter[tuple[str, str]]()
    classifier = Classifier(read_bundle(GOLDEN), threads=1)
    with IsolatedDecoder(seconds=SECONDS) as decoder:
        for number in range(count):
            kind = list(files)[number % len(files)]
            raw = damaged(rng, kind, files[kind])
            outcome = outcome_of_bundle(raw) if kind == "bundle" else outcome_of_image(raw, classifier, decoder)
            counts[kind, outcome] += 1
            if outcome.isupper() or outcome.split(":")[0].isupper():
                print(f"input {number} ({kind}): {outcome}", file=sys.stderr)
                if keep is not None:
                    (keep / f"{seed}-{number}-{kind}").write_bytes(raw)
    for (kind, outcome), inputs in sorted(counts.items()):
        print(f"{inputs:6}  {kind:6}  {outcome}")
    print(f"{count:6}  inputs, seed {seed}")
    return not any(outcome.split(":")[0].isupper() for _, outcome in counts)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    return 0 if run(arguments.count, arguments.seed, arguments.keep) else 1


if __name__ == "__main__":
    sys.exit(main())
