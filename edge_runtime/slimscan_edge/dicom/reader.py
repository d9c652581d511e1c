"""DICOM radiographs: from the bytes of a file to a picture of 8 bits.

Needs the `dicom` extra: pydicom for the data set, for uncompressed pixels, JPEG and JPEG 2000 (by Pillow's codecs), and
GDCM for lossless JPEG, JPEG of 12 bits, JPEG-LS, and JPEG 2000 that Pillow's codec does not decode.

Deflated files are unpacked, to no more than a file may hold. Several frames are refused, and so is what says of itself
that it is no frontal radiograph. A codec is only started on a codestream that claims the size that the header allows;
and GDCM only in a child process (`slimscan_edge.isolate`), as it ends the process on some damaged files.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.dicom.header import GREYS, PALETTE, DicomFile, Layout, read_layout
from slimscan_edge.errors import MachineError
from slimscan_edge.isolate import decode_apart, is_child
from slimscan_edge.preprocess import PreprocessSpec, Refused, printable


class _OnlyByGdcmError(Exception):
    """Pillow does not decode it, and this is no child in which GDCM could try."""


_START_OF_SCAN = 0xDA
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # 0xF7 is that of JPEG-LS (ITU-T T.87)
_SEGMENTS = _START_OF_FRAME | {0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xF8, 0xFE}
"""Markers with a length that may come before the first scan: tables, restart interval, applications', comments."""
_JFIF_AND_ADOBE = frozenset({0xE0, 0xEE})
"""Not for GDCM, which goes down with versions that it does not know; what colours are is said by the data set."""


def read_dicom(raw: bytes) -> Image.Image:
    """Read a DICOM file.

    Args:
        raw: The whole file.

    Returns:
        A picture of 8 bits, `L` or `RGB`, at the file's size.

    Raises:
        Refused: It is no single frontal radiograph that can be read, or the `dicom` extra is not installed.
        Exception: Whatever pydicom and the codecs raise on damaged files.
    """
    _require_pydicom()
    from slimscan_edge.dicom.frontal import require_frontal_chest
    from slimscan_edge.dicom.greys import to_colours, to_greys

    file = DicomFile(raw)
    header = file.header()
    require_frontal_chest(header)
    layout = read_layout(header)
    pixel_data, representation = file.pixel_data()
    if _needs_gdcm(file.syntax, pixel_data) and not is_child():
        return _decode_apart(raw, layout)
    try:
        stored = _decode(pixel_data, representation, file.syntax, layout)
    except _OnlyByGdcmError:
        return _decode_apart(raw, layout)
    if layout.samples == 3:
        return Image.fromarray(np.ascontiguousarray(stored))
    return Image.fromarray((to_colours if layout.photometric == PALETTE else to_greys)(stored, header, layout))


def _require_pydicom() -> None:
    try:
        import pydicom  # noqa: F401
    except ImportError as exc:
        raise _missing("pydicom") from exc


def _missing(package: str) -> Refused:
    return Refused(
        f"is DICOM, which needs the 'dicom' extra ({package} is not installed); run: pip install 'slimscan[dicom]'"
    )


def _needs_gdcm(syntax: str, pixel_data: bytes) -> bool:
    from pydicom import uid

    if syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        return _jpeg_size(_frame(pixel_data))[3] != 8
    return syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless)


def _decode_apart(raw: bytes, layout: Layout) -> Image.Image:
    channels = 1 if layout.photometric in GREYS else 3
    try:
        return decode_apart(raw, PreprocessSpec(channels=channels, jpeg_oversample=0))
    except MachineError as exc:
        raise Refused(f"is DICOM in an encoding that is only decoded apart, and {exc}") from exc


def _decode(pixel_data: bytes, representation: str, syntax: str, layout: Layout) -> NDArray[Any]:
    """Stored values `[rows, columns]`, 8 or 16 bits, signed or not; or RGB, uint8 `[rows, columns, 3]`."""
    from pydicom import uid

    little = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian)
    if syntax in (*little, uid.ExplicitVRBigEndian):
        native = uid.ExplicitVRLittleEndian if syntax in little else syntax
        return _by_pydicom(pixel_data, native, layout, pixel_vr=representation, correct_unused_bits=False)
    if syntax == uid.RLELossless:
        unpacked = _unpack_rle(_frame(pixel_data), layout)
        return _by_pydicom(
            unpacked, uid.ExplicitVRLittleEndian, layout, planar_configuration=1, correct_unused_bits=False
        )
    if syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
        return _decode_jpeg_2000(_codestream(_frame(pixel_data)), syntax, layout)
    if syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit) or _needs_gdcm(syntax, pixel_data):
        return _decode_jpeg(pixel_data, syntax, layout)
    raise Refused(
        f"is DICOM in the transfer syntax {printable(uid.UID(syntax).name)}, which is not read; "
        "expected uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000"
    )


def _frame(pixel_data: bytes) -> bytes:
    """The one frame in encapsulated pixel data (PS3.5, A.4)."""
    from pydicom.encaps import get_frame

    return get_frame(pixel_data, 0, number_of_frames=1)


def _by_pydicom(pixel_data: bytes, syntax: str, layout: Layout, **changes: Any) -> NDArray[Any]:
    """Let pydicom check lengths, order bytes, bits and planes, and turn luma and chroma into RGB."""
    from pydicom.pixels.decoders.base import get_decoder

    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "photometric_interpretation": layout.photometric,
        "planar_configuration": layout.planar,
        "pixel_representation": int(layout.is_signed),
        "pixel_keyword": "PixelData",
        "allow_excess_frames": False,
        **changes,
    }
    pixels, _ = get_decoder(syntax).as_array(pixel_data, index=0, **options)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _unpack_rle(frame: bytes, layout: Layout) -> bytes:
    """Undo RLE (PS3.5, annex G): planes of bytes, each packed, the most significant of a sample first.

    Pillow's decoder of the same packing is fast, and stops at the size of the picture whatever the runs say.
    """
    offsets = struct.unpack_from("<16L", frame)
    count, depth, pixels = offsets[0], layout.bits_allocated // 8, layout.rows * layout.columns
    if count != layout.samples * depth:
        raise ValueError(f"it has {count} RLE segments, expected {layout.samples * depth}")
    planes = np.empty((layout.samples, pixels, depth), np.uint8)
    ends = (*offsets[2 : count + 1], len(frame))
    for index, (begin, end) in enumerate(zip(offsets[1 : count + 1], ends, strict=True)):
        plane = Image.frombytes("L", (pixels, 1), frame[begin:end], "packbits", "L")
        sample, byte = divmod(index, depth)
        planes[sample, :, depth - 1 - byte] = np.asarray(plane)[0]
    return planes.tobytes()


def _decode_jpeg_2000(codestream: bytes, syntax: str, layout: Layout) -> NDArray[Any]:
    """Decode JPEG 2000: by Pillow, or by GDCM what Pillow cannot."""
    from PIL import features
    from pydicom.encaps import encapsulate

    rows, columns, samples, precision, is_signed = _jpeg_2000_size(codestream)
    _require_size(rows, columns, samples, layout)
    if features.check("jpg_2000"):
        try:
            return _by_pydicom(encapsulate([codestream]), syntax, layout, decoding_plugin="pillow")
        except Exception as exc:
            if not is_child():
                raise _OnlyByGdcmError from exc
    elif not is_child():
        raise _OnlyByGdcmError
    return _samples_of_gdcm(codestream, syntax, layout, precision, is_signed=is_signed)


def _codestream(frame: bytes) -> bytes:
    """A JPEG 2000 codestream, by itself as it should be, or out of a file's boxes (ITU-T T.800, I.4).

    Raises:
        ValueError: There is none in the boxes.
    """
    if frame[4:8] != b"jP  ":
        return frame
    position = 0
    while position + 8 <= len(frame):
        length, kind = struct.unpack_from(">L4s", frame, position)
        begin = position + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", frame, begin)
            begin += 8
        end = position + length if length else len(frame)
        if kind == b"jp2c":
            return frame[begin:end]
        if end < begin:
            break
        position = end
    raise ValueError("the picture in it is a JPEG 2000 file without a codestream")


def _decode_jpeg(pixel_data: bytes, syntax: str, layout: Layout) -> NDArray[Any]:
    """Decode JPEG or JPEG-LS: by Pillow what it knows, the rest by GDCM."""
    frame = _frame(pixel_data)
    rows, columns, samples, precision = _jpeg_size(frame)
    _require_size(rows, columns, samples, layout)
    if not _needs_gdcm(syntax, pixel_data):
        return _by_pydicom(pixel_data, syntax, layout, decoding_plugin="pillow")
    kept = b"".join(frame[begin:end] for marker, begin, end in _segments(frame) if marker not in _JFIF_AND_ADOBE)
    return _samples_of_gdcm(b"\xff\xd8" + kept, syntax, layout, precision, is_signed=layout.is_signed)


def _samples_of_gdcm(
    codestream: bytes, syntax: str, layout: Layout, precision: int, *, is_signed: bool
) -> NDArray[Any]:
    """What GDCM makes of a codestream of a precision in bits, as stored values."""
    from pydicom import uid

    if not 8 <= precision <= 16:
        raise Refused(f"is DICOM in {uid.UID(syntax).name} of {precision} bits, which is not read; expected 8 to 16")
    allocated = 8 if precision == 8 else 16
    return _by_pydicom(
        _by_gdcm(codestream, syntax, layout, precision, is_signed=is_signed),
        uid.ExplicitVRLittleEndian,
        layout,
        planar_configuration=0,
        bits_allocated=allocated,
        bits_stored=min(layout.bits_stored, allocated),
    )


def _jpeg_2000_size(frame: bytes) -> tuple[int, int, int, int, bool]:
    """Rows, columns, samples, precision and sign of a JPEG 2000 codestream, from its size segment (ITU-T T.800, A.5.1).

    Raises:
        ValueError: There is none where it should be.
    """
    if frame[:4] != b"\xff\x4f\xff\x51" or len(frame) < 43:
        raise ValueError("the picture in it does not begin as JPEG 2000 does")
    right, bottom, left, top = struct.unpack_from(">4L", frame, 8)
    samples, depth = struct.unpack_from(">HB", frame, 40)
    return bottom - top, right - left, samples, (depth & 0x7F) + 1, depth > 0x7F


def _jpeg_size(frame: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, samples and precision of a JPEG or JPEG-LS codestream, from its frame header (ITU-T T.81, B.2.2).

    Raises:
        ValueError: There is not just one, or what comes before the first scan is not as it should be.
    """
    headers = [frame[begin:end] for marker, begin, end in _segments(frame) if marker in _START_OF_FRAME]
    if len(headers) != 1 or len(headers[0]) < 10 or len(headers[0]) != 10 + 3 * headers[0][9]:
        raise ValueError("the picture in it has no frame header as JPEG has")
    precision, rows, columns, samples = struct.unpack_from(">BHHB", headers[0], 4)
    return rows, columns, samples, precision


def _is_jpeg(frame: bytes) -> bool:
    return frame[:2] == b"\xff\xd8"


def _segments(frame: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of each segment up to the first scan, which takes the rest (ITU-T T.81, B.1.1.4).

    Raises:
        ValueError: They do not follow one another without a gap. Codecs look for the next one, and GDCM goes down.
    """
    position = 2 if _is_jpeg(frame) else len(frame)
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker, length = struct.unpack_from(">BH", frame, position + 1)
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == _START_OF_SCAN:
            yield marker, position, len(frame)
            return
        if marker not in _SEGMENTS:
            break
        yield marker, position, position + 2 + length
        position += 2 + length
    raise ValueError("the picture in it does not begin as JPEG does")


def _require_size(rows: int, columns: int, samples: int, layout: Layout) -> None:
    """Codecs believe the codestream, which could claim more than was allowed, or less than the header promises."""
    if (rows, columns, samples) != (layout.rows, layout.columns, layout.samples):
        raise ValueError(
            f"the picture in it is {columns}x{rows} of {samples} samples, "
            f"its header says {layout.columns}x{layout.rows} of {layout.samples}"
        )


def _by_gdcm(codestream: bytes, syntax: str, layout: Layout, precision: int, *, is_signed: bool) -> bytes:
    """Samples as they would lie in an uncompressed file: little-endian and by pixel, in 8 or 16 bits."""
    try:
        import gdcm  # type: ignore[import-untyped]
    except ImportError as exc:
        raise _missing("python-gdcm") from exc

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(codestream)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetDataElement(element)
    photometric = gdcm.PhotometricInterpretation.GetPIType(layout.photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(photometric))
    if layout.samples > 1:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    # Told of 12 bits, it takes the right one of its JPEG codecs at once and does not complain on stderr of another; its
    # JPEG 2000 codec goes down with that.
    allocated = precision if precision == 8 or (precision == 12 and _is_jpeg(codestream)) else 16
    image.SetPixelFormat(gdcm.PixelFormat(layout.samples, allocated, precision, precision - 1, int(is_signed)))
    decoded = image.GetBuffer()  # bytes, of which SWIG makes a str
    if not decoded:
        raise ValueError("the picture in it cannot be decoded")
    samples: bytes = decoded.encode("utf-8", "surrogateescape")
    return samples
