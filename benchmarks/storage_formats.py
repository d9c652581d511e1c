"""Whether an X-ray is answered alike however it is stored: `python benchmarks/storage_formats.py FOLDER [--images 40]`.

Each X-ray is written in twelve encodings and, cut to one of twenty sizes, in the eight orientations of EXIF as PNG and
as JPEG. Each file's answer is compared with that of the plain upright PNG of 8 bits. Prints a table, and ends with exit
code 1 where a probability differs by more than 0.02 or a positive becomes negative or the reverse.
"""

import argparse
import io
import struct
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.classifier import Classifier
from slimscan_edge.locate import locate_bundle

MOST = 0.02
ORIENTATION = 0x0112
LYING = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a file of each EXIF orientation stores an upright picture."""
CUTS = tuple((number % 8, (3 * number + number // 8) % 8) for number in range(20))
"""Columns and rows that are cut off: twenty sizes with every rest of a block of eight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A probability and a decision."""

    probability: float
    decision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one way to store: each answer with that of the plain PNG."""

    name: str
    pairs: tuple[tuple[Answer, Answer], ...]

    @property
    def differences(self) -> NDArray[np.float64]:
        """Of the probabilities that both have."""
        both = [one.probability - other.probability for one, other in self.pairs]
        return np.abs(np.array([difference for difference in both if np.isfinite(difference)] or [0.0]))

    @property
    def changed(self) -> int:
        """Decisions that differ."""
        return sum(one.decision != other.decision for one, other in self.pairs)

    @property
    def turned(self) -> int:
        """Decisions that differ otherwise than between refer and a neighbour."""
        return sum(
            one.decision != other.decision and "refer" not in (one.decision, other.decision)
            for one, other in self.pairs
        )

    @property
    def passed(self) -> bool:
        """Whether all probabilities lie within `MOST` and no decision was turned around."""
        return bool(self.differences.max() <= MOST) and self.turned == 0


def encodings(picture: Image.Image) -> dict[str, bytes]:
    """A grey picture of 8 bits in twelve ways to store it."""
    greys = np.asarray(picture)
    opaque = Image.new("L", picture.size, 255)
    return {
        "JPEG, quality 95": _encoded(picture, "JPEG", quality=95),
        "JPEG, progressive, quality 90": _encoded(picture, "JPEG", quality=90, progressive=True),
        "JPEG stored as RGB": _encoded(picture.convert("RGB"), "JPEG", quality=95, keep_rgb=True, subsampling=0),
        "PNG, 16 bits": _encoded(Image.fromarray(greys.astype(np.uint16) * 257), "PNG", compress_level=1),
        "PNG, grey with alpha": _encoded(Image.merge("LA", (picture, opaque)), "PNG", compress_level=1),
        "BMP": _encoded(picture, "BMP"),
        "TIFF, 12 bits": _tiff(greys.astype(np.uint16) * 16, bits=12),
        "TIFF, unsigned 32 bits": _tiff(greys.astype(">u4") * 16843009, bits=32),
        "TIFF, floats of 16 bits": _tiff((greys / 2).astype(">f2"), bits=16, number=3),
        "TIFF, associated alpha": _tiff(np.stack([greys, np.full_like(greys, 255)], -1), bits=8, extra=1),
        "DICOM, 12 bits, MONOCHROME1, window": _dicom(
            4080 - greys.astype(np.uint16) * 16,
            BitsStored=12,
            PhotometricInterpretation="MONOCHROME1",
            WindowCenter=2040.5,
            WindowWidth=4081,
        ),
        "DICOM, 16 bits, JPEG 2000": _dicom(greys.astype(np.uint16) * 257, compressed=True),
    }


def turned(picture: Image.Image, file_format: str) -> Iterator[tuple[int, bytes]]:
    """A picture in each EXIF orientation."""
    options = {"quality": 95} if file_format == "JPEG" else {"compress_level": 1}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored = picture.transpose(LYING[orientation]) if orientation in LYING else picture
        yield orientation, _encoded(stored, file_format, exif=exif, **options)


def compare(classifier: Classifier, pictures: Iterable[Image.Image]) -> list[Row]:
    """Ask about each picture in each way to store it."""
    pairs: dict[str, list[tuple[Answer, Answer]]] = defaultdict(list)
    for number, picture in enumerate(pictures):
        plain = _answer(classifier, _encoded(picture, "PNG", compress_level=1))
        for name, raw in encodings(picture).items():
            pairs[name].append((_answer(classifier, raw), plain))
        columns, rows = CUTS[number % len(CUTS)]
        cut = picture.crop((0, 0, picture.width - columns, picture.height - rows))
        plain = _answer(classifier, _encoded(cut, "PNG", compress_level=1))
        for file_format in ("PNG", "JPEG"):
            for orientation, raw in turned(cut, file_format):
                pairs[f"{file_format}, orientation {orientation}"].append((_answer(classifier, raw), plain))
    return [Row(name=name, pairs=tuple(found)) for name, found in pairs.items()]


def as_table(rows: list[Row]) -> str:
    """Markdown."""
    head = "| stored as | files | largest change | mean change | decisions changed | turned around |\n"
    body = (
        f"| {row.name} | {len(row.pairs)} | {row.differences.max():.4f} | {row.differences.mean():.4f} | "
        f"{row.changed} | {row.turned} |"
        for row in rows
    )
    return head + "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(body)


def _answer(classifier: Classifier, raw: bytes) -> Answer:
    found = classifier.predict(raw)
    return Answer(probability=found.probability, decision=found.decision)


def _encoded(picture: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def _tiff(samples: NDArray[np.generic], *, bits: int, number: int = 1, extra: int | None = None) -> bytes:
    """A big-endian TIFF in one strip: samples as they lie, or packed where they have no whole bytes."""
    if bits == 12:
        shifts = np.arange(11, -1, -1)
        rows = (np.packbits((row[:, None] >> shifts).astype(np.uint8) & 1).tobytes() for row in samples)
        body = b"".join(rows)
    else:
        body = samples.tobytes()
    height, width = samples.shape[:2]
    entries = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: 1,
        273: 8,
        277: 1,
        278: height,
        279: len(body),
        339: number,
    }
    if extra is not None:
        entries |= {258: bits << 16 | bits, 277: 2, 338: extra, 339: number << 16 | number}
    directory = struct.pack(">H", len(entries))
    for tag, value in sorted(entries.items()):
        is_pair = extra is not None and tag in (258, 339)  # two numbers of 16 bits
        directory += struct.pack(">HHLL", tag, 3 if is_pair else 4, 2 if is_pair else 1, value)
    body += b"\0" * (len(body) % 2)
    return b"MM\0*" + struct.pack(">L", 8 + len(body)) + body + directory + bytes(4)


def _dicom(samples: NDArray[np.uint16], *, compressed: bool = False, **attributes: object) -> bytes:
    from pydicom import uid
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless if compressed else uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.ComputedRadiographyImageStorage, "1.2.3"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.Rows, dataset.Columns = samples.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.PixelRepresentation = 0
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.HighBit = dataset.BitsStored - 1
    if compressed:
        codestream = _encoded(Image.fromarray(samples), "JPEG2000", irreversible=False, no_jp2=True)
        dataset.PixelData = encapsulate([codestream])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    else:
        dataset.PixelData = samples.tobytes()
        dataset["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def main() -> int:
    """Print the table of a folder's X-rays; 1 where an answer changes too much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=40, help="how many, spread over the folder (default: 40)")
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.folder.rglob("*.jp*g") if path.is_file())
    chosen = paths[:: max(1, len(paths) // arguments.images)][: arguments.images]
    classifier = Classifier.load(locate_bundle(None).path, threads=1)
    rows = compare(classifier, (Image.open(path).convert("L") for path in chosen))
    print(as_table(rows))
    return 0 if rows and all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
