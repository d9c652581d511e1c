"""From an image file to the pixels that a model sees: the only implementation there is.

Training decodes through it into a cache, calibration and gates call it, and so does the device. What it
does is fixed by a `PreprocessSpec` that travels inside the bundle.

A picture that cannot be read is refused with an `ImageError` of one line: its name and one of these reasons.

    is empty                                              no byte
    is not a readable image; expected one of ...          another format, or none
    cannot be read (...)                                  absent, not permitted, a folder or a device
    has ... bytes, more than ...                          the file, before it is read
    has WIDTHxHEIGHT pixels, more than ...                before anything is allocated for them
    unpacks to more than ...                              a deflated DICOM file, before it is unpacked
    holds more than one picture; ...                      pages, frames of an animation or of a DICOM file
    is damaged or incomplete (...)                        what a parser or a codec tripped over
    needs more memory to be decoded than there is; ...
    is DICOM, which needs the 'dicom' extra ...           with the line that installs it
    is DICOM ...                                          of another modality or view, or encoded as is not read
    crashed the decoder (...); ...                        decoded apart (`slimscan_edge.isolate`), and some DICOM
    took longer to decode than ...                        as well

`slimscan predict` makes each of them a finding, `rejected`, and its exit code 2.
"""

import contextlib
import io
import math
import os
import stat
import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

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

READABLE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
"""By Pillow's names; DICOM is read beside them."""
MAX_PIXELS = 32_000_000
"""Refused above this before any pixel is allocated; the largest X-rays of the reference data have 7.3 million."""
MAX_FILE_BYTES = 128 * 2**20
"""Refused above this before it is read: as many pixels as are allowed fit uncompressed, at up to 4 bytes each."""

_BEGINS_JPEG = b"\xff\xd8\xff"
_STRIP_PIXELS = 2**20
_ORIENTATION, _PHOTOMETRIC, _WHITE_IS_ZERO = 0x0112, 0x0106, 0
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
        return _upright(_open(source), spec)


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
            image = _open(source)
    except Refused as exc:
        raise ImageError(f"{display_name(source)} {exc}") from exc.__cause__
    return PictureHeader(width=image.width, height=image.height, mode=image.mode, file_format=image.format or "DICOM")


def display_name(source: ImageSource) -> str:
    """What a message calls an image: its path, or `the image` when it has none."""
    return "the image" if isinstance(source, bytes | Image.Image | np.ndarray) else os.fspath(source)


def fit_to_input(image: Image.Image, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Resize a decoded image to uint8 `[height, width, channels]` and normalise its intensity."""
    size = (spec.width, spec.height)
    resampling = Image.Resampling[spec.resize_filter.upper()]
    if spec.fit != "stretch":
        from PIL import ImageOps  # not at import: it costs a cold start two milliseconds

        fitted = (ImageOps.pad if spec.fit == "letterbox" else ImageOps.fit)(image, size, resampling)
    else:  # the width first: versions of Pillow differ in which they begin with, and by rounding in what comes out
        fitted = image.resize((spec.width, image.height), resampling).resize(size, resampling)
    pixels = fitted.tobytes()
    if spec.intensity == "percentile":
        pixels = pixels.translate(_stretching(fitted))
    return np.frombuffer(pixels, np.uint8).reshape(spec.height, spec.width, spec.channels)


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


def _open(source: ImageSource) -> Image.Image:
    """A picture of any mode, its pixels not yet decoded unless the source held them so; DICOM in 8 bits."""
    if isinstance(source, Image.Image):
        image = source
    elif isinstance(source, np.ndarray):
        image = _from_array(source)
    else:
        raw = read_source(source)
        if is_dicom(raw):
            from slimscan_edge.dicom import read_dicom

            return read_dicom(raw)
        image = _open_by_pillow(raw)
    require_pixels(*image.size)
    if getattr(image, "n_frames", 1) > 1:
        raise Refused("holds more than one picture; save the one to be read by itself")
    return image


def is_dicom(raw: bytes) -> bool:
    """Whether a file begins as DICOM does: any 128 bytes, then a mark (PS3.10, 7.1)."""
    return raw[128:132] == b"DICM"


def require_pixels(width: int, height: int) -> None:
    """Refuse a picture that is too large to be decoded.

    Raises:
        Refused: It has more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise Refused(f"has {width}x{height} pixels, more than the {MAX_PIXELS:,} allowed")


def _open_by_pillow(raw: bytes) -> Image.Image:
    try:
        image = _open_jpeg(raw) or Image.open(io.BytesIO(raw), formats=READABLE_FORMATS)
    except Image.DecompressionBombError as exc:
        raise Refused(f"has more than the {MAX_PIXELS:,} pixels allowed") from exc
    except UnidentifiedImageError as exc:
        raise Refused(f"is not a readable image; expected one of {', '.join(READABLE_FORMATS)}, DICOM") from exc
    image.decodermaxblock = len(raw)  # all at once rather than by blocks: no copies, and no row begun twice
    return image


def _open_jpeg(raw: bytes) -> "ImageFile | None":
    """A JPEG as `Image.open` opens it, which first loads what reads other formats; None if it is no readable JPEG."""
    if not raw.startswith(_BEGINS_JPEG):
        return None
    from PIL.JpegImagePlugin import jpeg_factory

    with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
        return jpeg_factory(io.BytesIO(raw))
    return None


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise Refused(
            f"is an array of {pixels.dtype} {list(pixels.shape)}, expected uint8 [H, W], [H, W, 1] or [H, W, 3]"
        )
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _upright(image: Image.Image, spec: PreprocessSpec) -> Image.Image:
    """Decode at the reduced size, bring to 8 bits of `L` or `RGB`, and turn as EXIF says."""
    mode = "L" if spec.channels == 1 else "RGB"
    if spec.jpeg_oversample:
        # of a coloured file the chroma too; the luma is the same as alone
        image.draft("YCbCr" if mode == "L" and image.mode == "RGB" else mode, _wanted(spec, _turn(image)))
    image.load()
    turn = _turn(image)  # no longer what it was if this is TIFF, which Pillow turns by itself
    picture = _reduced(_eight_bits(image, mode), _wanted(spec, turn))
    upright = picture
    if turn is not None:
        upright = picture.transpose(turn)
        upright.info = {}  # which still says how it lay
    if mode == "L" and shows_colours(image):
        upright.info[IN_COLOUR] = True
    return upright


def _turn(image: Image.Image) -> Image.Transpose | None:
    return _TURNS.get(image.getexif().get(_ORIENTATION, 1))


def _wanted(spec: PreprocessSpec, turn: Image.Transpose | None) -> tuple[int, int]:
    """Least width and height that a picture is reduced to, as it lies in the file."""
    width, height = spec.width * spec.jpeg_oversample, spec.height * spec.jpeg_oversample
    return (height, width) if turn in _TURNS_OF_THE_SIDES else (width, height)


def _reduced(image: Image.Image, wanted: tuple[int, int]) -> Image.Image:
    """Shrink by the mean of blocks, as far as a JPEG would be: to at least the wanted size, if one is wanted."""
    if not wanted[0]:
        return image
    scale = min(image.width // wanted[0], image.height // wanted[1])
    factor = next((factor for factor in (8, 4, 2) if factor <= scale), 1)
    return image.reduce(factor) if factor > 1 else image


def _eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """Convert to `L` or `RGB`; deeper greys are mapped linearly from their own range, alpha lies on black."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    levels = _own_range(image) if is_deep else (0.0, 0.0)
    # By strips, for a whole picture would lie in memory several times over.
    converted = Image.new(mode, image.size)
    for top, strip in _strips(image):
        flat = _deep_to_grey(strip, *levels) if is_deep else _on_black(strip)
        converted.paste(flat if flat.mode == mode else flat.convert(mode), (0, top))
    return converted


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """A loaded picture in strips of whole rows, each with the row that it begins at."""
    rows = max(1, _STRIP_PIXELS // image.width)
    if image.height <= rows:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _own_range(image: Image.Image) -> tuple[float, float]:
    """The grey levels that become black and white: least and most, or the reverse if 0 is white."""
    ranges = [(part.min(), part.max()) for part in (np.asarray(strip) for _, strip in _strips(image))]
    low, high = float(np.min(ranges)), float(np.max(ranges))
    if not math.isfinite(high - low):
        raise Refused("is damaged or incomplete (it has grey levels that are not finite numbers); export it again")
    # Pillow turns TIFF of WhiteIsZero around up to 8 bits (TIFF 6.0, PhotometricInterpretation), and no deeper.
    tags: Any = getattr(image, "tag_v2", {})
    return (high, low) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and image.mode.startswith("I;16") else (low, high)


def _deep_to_grey(image: Image.Image, black: float, white: float) -> Image.Image:
    deep = np.asarray(image, dtype=np.float64)
    scaled = (deep - black) * (255.0 / (white - black)) if white != black else np.zeros_like(deep)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _on_black(image: Image.Image) -> Image.Image:
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
