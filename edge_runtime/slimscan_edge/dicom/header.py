"""What a DICOM file says before its pixels: found, and checked as far as it says how these lie."""

import io
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from slimscan_edge.preprocess import MAX_FILE_BYTES, Refused, one_line, printable, require_pixels

if TYPE_CHECKING:
    from pydicom import Dataset

GREYS = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"

_META_GROUP = 0x0002
_TRANSFER_SYNTAX = 0x00020010
_FIRST_PIXEL_TAG = 0x7FE00008  # float and double pixel data lie before the pixel data and are not read
_PIXEL_DATA = 0x7FE00010
_UNDEFINED_LENGTH = 0xFFFFFFFF
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
_KEYWORDS = (
    "SOPClassUID",
    "Modality",
    "PresentationIntentType",
    "AnatomicRegionSequence",
    "BodyPartExamined",
    "ViewPosition",
    "Laterality",
    "ImageLaterality",
    "ViewCodeSequence",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How pixels lie in the pixel data, by the attributes of PS3.3, C.7.6.3, within what is read."""

    rows: int
    columns: int
    samples: int
    photometric: str
    planar: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool


class DicomFile:
    """A DICOM file, open before its data set: `header` first, then `pixel_data`.

    Attributes:
        syntax: UID of the transfer syntax.
    """

    def __init__(self, raw: bytes) -> None:
        """Read the meta information; a deflated data set is unpacked.

        Raises:
            Refused: It would unpack to more than a file may hold.
            Exception: Whatever pydicom and zlib raise on damage, here and in the methods.
        """
        from pydicom import uid

        self._file: BinaryIO = io.BytesIO(raw)
        self._file.seek(next((place + 4 for place in (128, 0) if raw[place : place + 4] == b"DICM"), 0))
        self._encoding = (False, True)  # implicit value representations, little-endian
        meta = self._read([_TRANSFER_SYNTAX], stop=lambda tag: tag >> 16 != _META_GROUP)
        self.syntax = str(value_of(meta, "TransferSyntaxUID") or "") or _syntax_by_look(raw[self._file.tell() :][:8])
        if self.syntax == uid.DeflatedExplicitVRLittleEndian:
            self._file = io.BytesIO(_inflate(memoryview(raw)[self._file.tell() :]))
        self._encoding = (self.syntax == uid.ImplicitVRLittleEndian, self.syntax != uid.ExplicitVRBigEndian)

    def header(self) -> "Dataset":
        """What is needed to show the picture; no other element is looked into, so that none can do harm.

        Raises:
            Refused: Sequences are nested too deeply.
        """
        from pydicom.datadict import tag_for_keyword

        try:
            return self._read(list(map(tag_for_keyword, _KEYWORDS)), stop=lambda tag: tag >= _FIRST_PIXEL_TAG)
        except RecursionError as exc:
            raise Refused("is damaged or incomplete (DICOM sequences nested too deeply); export it again") from exc

    def pixel_data(self) -> tuple[bytes, str]:
        """The value of the pixel data as it is stored, and its value representation; after `header`.

        Raises:
            Refused: There is none.
        """
        found = self._read([_PIXEL_DATA], stop=lambda tag: tag > _PIXEL_DATA)
        element: Any = found.get_item(_PIXEL_DATA) if _PIXEL_DATA in found else None
        if element is None or not element.value:
            raise _no_pixel_data()
        if element.length == _UNDEFINED_LENGTH and self.syntax in _UNCOMPRESSED:
            raise ValueError("its pixels are compressed, and its transfer syntax says or leaves open that they are not")
        return bytes(element.value), str(element.VR or "OW")

    def _read(self, tags: list[Any], *, stop: Any) -> "Dataset":
        from pydicom.filereader import read_dataset

        return read_dataset(self._file, *self._encoding, stop_when=lambda tag, *_: bool(stop(tag)), specific_tags=tags)


def _syntax_by_look(element: bytes) -> str:
    """The transfer syntax of a data set that nothing is said of, by its first element: one of the uncompressed ones.

    Raises:
        ValueError: It begins as none of them does.
    """
    from pydicom import uid

    says_what_it_is = element[4:6].isalpha() and element[4:6].isupper()
    if element[:1] == b"\0" and says_what_it_is:  # a group of less than 256, its more significant byte first
        return str(uid.ExplicitVRBigEndian)
    if len(element) < 8 or element[1:2] != b"\0":
        raise ValueError("DICOM without a transfer syntax")
    return str(uid.ExplicitVRLittleEndian if says_what_it_is else uid.ImplicitVRLittleEndian)


def _inflate(deflated: memoryview) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(deflated, MAX_FILE_BYTES + 1)
    if len(plain) > MAX_FILE_BYTES:
        raise Refused(f"unpacks to more than the {MAX_FILE_BYTES:,} bytes allowed")
    if not inflater.eof:
        raise ValueError("its deflated part is cut off")
    return plain


def _no_pixel_data() -> Refused:
    return Refused("is DICOM that holds no pixel data; it is no picture, or was cut off before it")


def read_layout(header: "Dataset") -> Layout:
    """How the pixels lie.

    Raises:
        Refused: There are too many of them, in one frame or more, or they lie in a way that is not read.
        ValueError: An attribute is absent or makes no sense.
    """
    if "Rows" not in header:
        raise _no_pixel_data()
    if _whole(header, "NumberOfFrames", 0, 2**31, default=1) > 1:
        raise Refused("holds more than one picture; save the one to be read by itself")
    rows, columns = (_whole(header, keyword, 1, 65535) for keyword in ("Rows", "Columns"))
    require_pixels(columns, rows)
    photometric = words(header, "PhotometricInterpretation")
    if photometric not in (*GREYS, *COLOURS, PALETTE):
        raise Refused(f"is DICOM of photometric interpretation {photometric[:16]!r}, which is not read")
    samples = _whole(header, "SamplesPerPixel", 1, 4, default=3 if photometric in COLOURS else 1)
    if samples != (3 if photometric in COLOURS else 1):
        raise ValueError(f"{photometric} with {samples} samples per pixel")
    allocated = _whole(header, "BitsAllocated", 1, 64)
    if allocated != 8 and (samples == 3 or allocated != 16):
        depths = "8" if samples == 3 else "8 or 16"
        raise Refused(f"is DICOM with {allocated} bits allocated for a sample of {photometric}; expected {depths}")
    bits_stored = _whole(header, "BitsStored", 1, allocated, default=allocated)
    if _whole(header, "HighBit", 0, 63, default=bits_stored - 1) != bits_stored - 1:
        raise Refused("is DICOM whose high bit is not the highest of those stored, which is not read")
    return Layout(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        planar=_whole(header, "PlanarConfiguration", 0, 1, default=0),
        bits_allocated=allocated,
        bits_stored=bits_stored,
        is_signed=bool(_whole(header, "PixelRepresentation", 0, 1, default=0)),
    )


def value_of(dataset: "Dataset", keyword: str) -> Any:
    """The first value of an element; None when it is absent or empty.

    Raises:
        ValueError: It cannot be read as what its value representation says.
    """
    try:
        value = dataset.get(keyword)
    except Exception as exc:  # a converter of pydicom's may raise anything
        raise ValueError(f"its {keyword} cannot be read: {one_line(exc)}") from exc
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return value
    return value[0] if len(value) else None


def number(dataset: "Dataset", keyword: str) -> float | None:
    """The first number of an element; None when it is absent or empty.

    Raises:
        ValueError: It is no finite number.
    """
    value = value_of(dataset, keyword)
    if value is None or value == "":
        return None
    parsed = float(value)
    if not math.isfinite(parsed):
        raise ValueError(f"its {keyword} is {parsed}")
    return parsed


def words(dataset: "Dataset", keyword: str) -> str:
    """The first value of an element in capitals; empty when it is absent.

    Raises:
        ValueError: As for `value_of`.
    """
    value = value_of(dataset, keyword)
    return "" if value is None else printable(str(value)).upper()


def _whole(dataset: "Dataset", keyword: str, low: int, high: int, default: int | None = None) -> int:
    value = value_of(dataset, keyword)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"its {keyword} is {value!r}, expected {low} to {high}")
    return int(value)
