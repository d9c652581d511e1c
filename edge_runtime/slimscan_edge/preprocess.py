"""From an image file to the pixels that a model sees: the only implementation there is.

Training decodes through it into a cache, calibration and gates call it, and so does the device. What it
does is fixed by a `PreprocessSpec` that travels inside the bundle.

A picture that cannot be read is refused with an `ImageError` of one line: its name and one of these reasons.

    is empty                                              no byte, or no pixel
    is not a readable image; expected one of ...          another format, or none
    cannot be read (...)                                  absent, not permitted, a folder or a device
    has ... bytes, more than ...                          the file, before it is read
    has WIDTHxHEIGHT pixels, more than ...                before anything is allocated for them
    unpacks to more than ...                              a deflated DICOM file, before it is unpacked
    holds more than one picture; ...                      pages, frames of an animation or of a DICOM file; of what a
                                                          phone keeps beside its picture (MPO) the first is read
    is damaged or incomplete (...)                        what a parser or a codec tripped over
    needs more memory to be decoded than there is; ...
    is DICOM, which needs the 'dicom' extra ...           with the line that installs it
    is DICOM ...                                          of another modality, body part or view, not yet processed
                                                          for presentation, or encoded as is not read
    is TIFF of ...                                        of a depth, number or sign of samples that is not read
    crashed the decoder (...); ...                        decoded apart (`slimscan_edge.isolate`), and some DICOM
    took longer to decode than ...                        as well

`slimscan predict` makes each of them a finding, `rejected`, and its exit code 2.
"""

import contextlib
import io
import os
import stat
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from slimscan_edge.colour import IN_COLOUR, shows_colours
from slimscan_edge.errors import ImageError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
Fit = Literal["stretch", "letterbox", "crop"]
ResizeFilter = Literal["box", "bilinear", "hamming", "bicubic", "lanczos"]
Intensity = Literal["none", "percentile"]
_Used = TypeVar("_Used")

READABLE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
"""By Pillow's names; DICOM is read beside them."""
MAX_PIXELS = 32_000_000
"""Refused above this before any pixel is allocated; the largest X-rays of the reference data have 7.3 million."""
MAX_FILE_BYTES = 128 * 2**20
"""Refused above this before it is read: as many pixels as are allowed fit uncompressed, at up to 4 bytes each."""

STRIP_PIXELS = 2**20
"""Pixels that are converted together where a conversion takes much memory."""
EXTENT = "extent"
"""Key in the `info` of a reduced picture whose last column or row stands for less than a pixel: see `extent_of`."""

_BEGINS_JPEG = b"\xff\xd8\xff"
_BEGIN_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DICOM_MARK = b"DICM"
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets each EXIF orientation upright (CIPA DC-008, Orientation)."""
_TURNS_OF_THE_SIDES = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))

_LEVELS = np.arange(256, dtype=np.float64)

PERCENTILES = (1.0, 99.0)
"""Grey levels that `intensity="percentile"` maps to 0 and 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessSpec:
    """What happens between an image file and the model's input.

    Attributes:
        height: Rows of the model's input.
        width: Columns of the model's input.
        channels: 1 (grey) or 3 (RGB).
        fit: `stretch` to the input size, `letterbox` (black bars) or centre `crop` to its aspect ratio.
        resize_filter: Pillow's name of the resampling filter (antialiased when shrinking).
        jpeg_oversample: A larger picture is first brought to the smallest 1/1, 1/2, 1/4 or 1/8 scale that still has
            this many times the input size: a JPEG while it is decoded, any other by the mean of blocks right after.
            0 leaves it as large as it is.
        intensity: `none`, or `percentile`: grey levels at the 1st and 99th percentile become 0 and 255.
    """

    height: int = 192
    width: int = 192
    channels: int = 1
    fit: Fit = "stretch"
    resize_filter: ResizeFilter = "bilinear"
    jpeg_oversample: int = 1
    intensity: Intensity = "none"

    def __post_init__(self) -> None:
        if not (8 <= self.height <= 4096 and 8 <= self.width <= 4096):
            raise ValueError(f"input size {self.height}x{self.width} is outside 8x8 to 4096x4096")
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}, expected 1 (grey) or 3 (RGB)")
        if self.jpeg_oversample not in range(5):
            raise ValueError(f"jpeg_oversample is {self.jpeg_oversample}, expected 0 (full decoding) to 4")
        for name, value, known in (
            ("fit", self.fit, get_args(Fit)),
            ("resize_filter", self.resize_filter, get_args(ResizeFilter)),
            ("intensity", self.intensity, get_args(Intensity)),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")


class Refused(Exception):  # noqa: N818 - a verdict on a picture, and never seen outside this package
    """Why a picture is refused: the end of a sentence that begins with the picture's name."""


def preprocess(source: ImageSource, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Read an image and bring it to the model's input.

    Args:
        source: A path, the bytes of a file, a Pillow image, or grey `[H, W]`, `[H, W, 1]` or RGB
            `[H, W, 3]` pixels as uint8.
        spec: What to do.

    Returns:
        uint8 pixels `[spec.height, spec.width, spec.channels]`, 0 to 255.

    Raises:
        ImageError: The image is refused, for one of the module's reasons.
    """
    return fit_to_input(decode(source, spec), spec)


def decode(source: ImageSource, spec: PreprocessSpec, *, name: str = "") -> Image.Image:
    """Read an image upright, in grey or RGB of 8 bits, at the file's size or the reduced one.

    A Pillow image that was opened from a JPEG but not yet loaded is read as the file would be, at the reduced size.
    What was decoded once comes back as it is.

    Args:
        source: As for `preprocess`.
        spec: Whose channels and input size count.
        name: What to call the image in a message; a path calls itself when empty.

    Raises:
        ImageError: As for `preprocess`.
    """
    try:
        return decode_or_refuse(source, spec)
    except Refused as exc:
        raise ImageError(f"{name or display_name(source)} {exc}") from exc.__cause__


def decode_or_refuse(source: ImageSource, spec: PreprocessSpec) -> Image.Image:
    """As `decode`, with a reason that does not begin with the image's name.

    Raises:
        Refused: For one of the module's reasons.
    """
    with _refusing():
        return _read(source, lambda image: _upright(image, spec))


def _read(source: ImageSource, use: Callable[[Image.Image], _Used]) -> _Used:
    """Open a picture and use it; a file that Pillow trips over gets a second chance if no pixel is missing."""
    if isinstance(source, Image.Image):
        return use(_checked(_apart_from_callers(source)))
    if isinstance(source, np.ndarray):
        return use(_checked(_from_array(source)))
    raw = read_source(source)
    try:
        return use(_open(raw))
    except (OSError, ValueError):
        from slimscan_edge.formats.mending import mend

        if (mended := mend(raw)) is None:
            raise
        return use(_open(mended))


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Make a refusal of whatever the parsers raise."""
    try:
        yield
    except Refused:
        raise
    except MemoryError as exc:
        raise Refused("needs more memory to be decoded than there is; make it smaller") from exc
    except Exception as exc:  # on damaged files the parsers raise whatever they trip over
        raise Refused(f"is damaged or incomplete ({one_line(exc)}); copy or export it again") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureHeader:
    """What a file says of its picture: the size as it lies in the file, Pillow's mode, and the format's name."""

    width: int
    height: int
    mode: str
    file_format: str


def read_header(source: str | os.PathLike[str] | bytes) -> PictureHeader:
    """Look at a picture without decoding it; DICOM is decoded.

    Raises:
        ImageError: As for `preprocess`, as far as it shows.
    """
    try:
        with _refusing():
            return _read(
                source,
                lambda image: PictureHeader(
                    width=image.width, height=image.height, mode=image.mode, file_format=image.format or "DICOM"
                ),
            )
    except Refused as exc:
        raise ImageError(f"{display_name(source)} {exc}") from exc.__cause__


def display_name(source: ImageSource) -> str:
    """What a message calls an image: its path, or `the image` when it has none."""
    return "the image" if isinstance(source, bytes | Image.Image | np.ndarray) else os.fspath(source)


def fit_to_input(image: Image.Image, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Resize a decoded image to uint8 `[height, width, channels]` and normalise its intensity."""
    resampling = Image.Resampling[spec.resize_filter.upper()]
    (left, top, right, bottom), (width, height) = _part_and_size(extent_of(image), spec)
    # The width first: versions of Pillow differ in which they begin with, and by rounding in what comes out.
    narrow = image.resize((width, image.height), resampling, box=(left, 0, right, image.height))
    fitted = narrow.resize((width, height), resampling, box=(0, top, width, bottom))
    if (width, height) != (spec.width, spec.height):
        black = Image.new(fitted.mode, (spec.width, spec.height))
        black.paste(fitted, (round((spec.width - width) / 2), round((spec.height - height) / 2)))
        fitted = black
    pixels = fitted.tobytes()
    if spec.intensity == "percentile":
        pixels = pixels.translate(_stretching(fitted))
    return np.frombuffer(pixels, np.uint8).reshape(spec.height, spec.width, spec.channels)


def _part_and_size(
    extent: tuple[float, float], spec: PreprocessSpec
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """The part of a picture that the model sees (left, top, right, bottom), and the size that it gets."""
    width, height = extent
    if spec.fit == "letterbox":
        if width * spec.height > height * spec.width:
            return (0, 0, width, height), (spec.width, max(1, round(height / width * spec.width)))
        return (0, 0, width, height), (max(1, round(width / height * spec.height)), spec.height)
    seen_width, seen_height = width, height
    if spec.fit == "crop":
        seen_width = min(width, spec.width / spec.height * height)
        seen_height = min(height, width / (spec.width / spec.height))
    left, top = (width - seen_width) / 2, (height - seen_height) / 2
    return (left, top, left + seen_width, top + seen_height), (spec.width, spec.height)


def read_source(source: str | os.PathLike[str] | bytes) -> bytes:
    """The bytes of an image file, bounded by `MAX_FILE_BYTES`; nothing in them is looked at.

    Raises:
        Refused: There are none or too many, or they cannot be read.
    """
    if not isinstance(source, bytes):
        try:
            with open(source, "rb", opener=_open_at_once) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise Refused("cannot be read (it is no regular file)")
                _require_size(status.st_size)
                source = file.read(status.st_size + 1)  # a file that grows meanwhile ends there
        except OSError as exc:
            raise Refused(f"cannot be read ({exc.strerror or exc})") from exc
    _require_size(len(source))
    return source


def one_line(exc: BaseException) -> str:
    """What an exception says, or its kind if it says nothing, for the middle of a message."""
    return printable(str(exc)) or type(exc).__name__


def printable(text: str, *, most: int = 200) -> str:
    """A text from a file, for a message: cut off, on one line, without control characters."""
    return "".join(character if character.isprintable() else "?" for character in " ".join(text.split())[:most])


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting, as opening a pipe that nobody writes to would."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_size(size_bytes: int) -> None:
    if not size_bytes:
        raise Refused("is empty")
    if size_bytes > MAX_FILE_BYTES:
        raise Refused(f"has {size_bytes:,} bytes, more than the {MAX_FILE_BYTES:,} allowed")


def _open(raw: bytes) -> Image.Image:
    """A picture of any mode, its pixels not yet decoded; DICOM in 8 bits."""
    if is_dicom(raw):
        from slimscan_edge.dicom import read_dicom

        return read_dicom(raw)
    return _checked(_open_by_pillow(raw))


def _checked(image: Image.Image) -> Image.Image:
    require_pixels(*image.size)
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise Refused("holds more than one picture; save the one to be read by itself")
    return image


def is_dicom(raw: bytes) -> bool:
    """Whether a file begins as DICOM does: any 128 bytes, then a mark (PS3.10, 7.1), or without these.

    Without them, it begins with the meta information or the data set: an element of group 2 or 8.
    """
    if raw[128:132] == _DICOM_MARK or raw[:4] == _DICOM_MARK:
        return True
    group, element, representation = raw[:2], raw[2:4], raw[4:6]
    if group in (b"\0\x02", b"\0\x08"):  # big-endian, and then never without value representations
        return element[:1] == b"\0" and representation.isalpha() and representation.isupper()
    if group not in (b"\x02\0", b"\x08\0") or element[1:] != b"\0":
        return False
    return (representation.isalpha() and representation.isupper()) or raw[6:8] == b"\0\0"  # of a length under 64 KiB


def require_pixels(width: int, height: int) -> None:
    """Refuse a picture that is too large to be decoded, or has no pixel.

    Raises:
        Refused: It has more than `MAX_PIXELS`, or none.
    """
    if width * height > MAX_PIXELS:
        raise Refused(f"has {width}x{height} pixels, more than the {MAX_PIXELS:,} allowed")
    if not width * height:
        raise Refused(f"is empty: it has {width}x{height} pixels")


def _open_by_pillow(raw: bytes) -> Image.Image:
    try:
        if raw.startswith(_BEGIN_TIFF):
            from slimscan_edge.formats.tiff import open_tiff

            return open_tiff(raw)
        image = _open_jpeg(raw) or Image.open(io.BytesIO(raw), formats=READABLE_FORMATS)
    except Image.DecompressionBombError as exc:
        raise Refused(f"has more than the {MAX_PIXELS:,} pixels allowed") from exc
    except UnidentifiedImageError as exc:
        raise Refused(f"is not a readable image; expected one of {', '.join(READABLE_FORMATS)}, DICOM") from exc
    image.decodermaxblock = len(raw)  # all at once rather than by blocks: no copies, and no row begun twice
    return image


def _open_jpeg(raw: bytes) -> "ImageFile | None":
    """A JPEG without loading what reads other formats, the first if more follow; None if it is no readable JPEG."""
    if not raw.startswith(_BEGINS_JPEG):
        return None
    from PIL.JpegImagePlugin import JpegImageFile

    with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
        return JpegImageFile(io.BytesIO(raw))
    return None


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise Refused(
            f"is an array of {pixels.dtype} {list(pixels.shape)}, expected uint8 [H, W], [H, W, 1] or [H, W, 3]"
        )
    require_pixels(*pixels.shape[1::-1])
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _apart_from_callers(image: Image.Image) -> Image.Image:
    """A picture whose decoding changes nothing of the given one: a JPEG that is not yet loaded is opened anew."""
    file: Any = getattr(image, "fp", None)
    if image.format not in ("JPEG", "MPO") or not getattr(image, "tile", None) or file is None:
        return image
    place = file.tell()
    file.seek(0)
    raw = file.read()
    file.seek(place)
    return _open_jpeg(raw) or image.copy()


def _upright(image: Image.Image, spec: PreprocessSpec) -> Image.Image:
    """Decode at the reduced size, bring to 8 bits of `L` or `RGB`, and turn as EXIF says."""
    mode = "L" if spec.channels == 1 else "RGB"
    extent = (_drafted(image, mode, spec) if spec.jpeg_oversample else None) or extent_of(image)
    image.load()
    turn = _turn(image)  # no longer what it was if this is TIFF, which Pillow turns by itself
    picture = _eight_bits(image, mode)
    if turn is not None:
        picture = picture.transpose(turn)
        extent = extent[::-1] if turn in _TURNS_OF_THE_SIDES else extent
    if spec.jpeg_oversample and (factor := _factor(extent, _wanted(spec))) > 1:
        picture = picture.reduce(factor)
        extent = extent[0] / factor, extent[1] / factor
    if picture is not image or extent != extent_of(image):
        picture.info = {} if extent == picture.size else {EXTENT: extent}  # else still what was true of the file
        if mode == "L" and shows_colours(image):
            picture.info[IN_COLOUR] = True
    return picture


def _drafted(image: Image.Image, mode: str, spec: PreprocessSpec) -> tuple[float, float] | None:
    """Have a JPEG decoded at the reduced size; its extent then, or None if it is none or is already decoded.

    Blocks are counted from the upper left of the upright picture; in a file that is turned, their rest would lie at
    the other side. So such a file is decoded as it is.
    """
    turn = _turn(image)
    wanted = _wanted(spec)[::-1] if turn in _TURNS_OF_THE_SIDES else _wanted(spec)
    factor = _factor(image.size, wanted)
    if turn is not None and any(side % factor for side in image.size):
        wanted = image.size
    # of a coloured file the chroma too; the luma is the same as alone
    if mode == "L" and image.mode == "RGB":
        mode = "RGB" if _is_stored_in_rgb(image) else "YCbCr"
    drafted: Any = image.draft(mode, wanted)
    extent: tuple[float, float] | None = drafted and drafted[1][2:]
    return extent


def _is_stored_in_rgb(image: Any) -> bool:
    """Whether a JPEG of three components is not one of luma and chroma, as libjpeg decides it."""
    if image.format != "JPEG" or "jfif" in image.info:
        return False
    if "adobe" in image.info:
        return bool(image.info.get("adobe_transform") == 0)
    return bytes(part[0] for part in image.layer) == b"RGB"


def turned_upright(picture: Image.Image, orientation: int) -> Image.Image:
    """A picture that lies as its EXIF orientation says, set upright."""
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    return _TURNS.get(image.getexif().get(_ORIENTATION, 1))


def _wanted(spec: PreprocessSpec) -> tuple[int, int]:
    """Least width and height that an upright picture is reduced to."""
    return spec.width * spec.jpeg_oversample, spec.height * spec.jpeg_oversample


def _factor(extent: tuple[float, float], wanted: tuple[int, int]) -> int:
    """How many times smaller a picture may be decoded and still have the wanted size: 1, 2, 4 or 8."""
    scale = min(extent[0] // wanted[0], extent[1] // wanted[1])
    return next((factor for factor in (8, 4, 2) if factor <= scale), 1)


def extent_of(image: Image.Image) -> tuple[float, float]:
    """Width and height that a picture's pixels stand for, where the last ones of a reduced picture may be parts."""
    extent = image.info.get(EXTENT)
    if not isinstance(extent, tuple):
        return image.size
    is_its_own = 0 <= image.width - extent[0] < 1 and 0 <= image.height - extent[1] < 1  # and not what it was cut from
    return extent if is_its_own else image.size


def _eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """Convert to `L` or `RGB`; deeper greys are mapped linearly from their own range, alpha lies on black."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        from slimscan_edge.formats.deep import picture_to_greys

        greys = picture_to_greys(image)
        return greys if mode == "L" else greys.convert(mode)
    # By strips, for a whole picture would lie in memory several times over.
    converted = Image.new(mode, image.size)
    for top, strip in strips(image):
        flat = _on_black(strip)
        converted.paste(flat if flat.mode == mode else flat.convert(mode), (0, top))
    return converted


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """A loaded picture in strips of whole rows, each with the row that it begins at."""
    rows = max(1, STRIP_PIXELS // image.width)
    if image.height <= rows:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_black(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # whose greys are already dimmed by its alpha
        return image.getchannel(0)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba)


def _stretching(image: Image.Image) -> bytes:
    """What each of the 256 grey levels becomes so that those at `PERCENTILES` become 0 and 255; no pixel is sorted."""
    counts = image.histogram()
    if len(counts) > len(_LEVELS):  # of all bands alike
        counts = np.reshape(counts, (-1, len(_LEVELS))).sum(axis=0).tolist()
    counted = list(accumulate(counts))
    low, high = (bisect_left(counted, share / 100.0 * counted[-1]) for share in PERCENTILES)
    if high <= low:
        return bytes(range(256))
    levels = (_LEVELS - low) * (255.0 / (high - low))
    return np.rint(np.clip(levels, 0.0, 255.0)).astype(np.uint8).tobytes()
