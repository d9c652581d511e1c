"""From an image file to the pixels that a model sees: the only implementation there is.

Training decodes through it into a cache, calibration and gates call it, and so does the device. What it
does is fixed by a `PreprocessSpec` that travels inside the bundle.
"""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from slimscan_edge.errors import ImageError

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
Fit = Literal["stretch", "letterbox", "crop"]
ResizeFilter = Literal["box", "bilinear", "hamming", "bicubic", "lanczos"]
Intensity = Literal["none", "percentile"]

READABLE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp"})
MAX_PIXELS = 32_000_000
"""Refused above this before any pixel is allocated; the largest X-rays of the reference data have 7.3 million."""

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
        jpeg_oversample: A JPEG is decoded at the smallest 1/1, 1/2, 1/4 or 1/8 scale that still has this
            many times the input size; 0 decodes it in full.
        intensity: `none`, or `percentile`: grey levels at the 1st and 99th percentile become 0 and 255.
    """

    height: int = 192
    width: int = 192
    channels: int = 1
    fit: Fit = "stretch"
    resize_filter: ResizeFilter = "bilinear"
    jpeg_oversample: int = 2
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


def preprocess(source: ImageSource, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Read an image and bring it to the model's input.

    Args:
        source: A path, the bytes of a file, a Pillow image, or grey `[H, W]`, `[H, W, 1]` or RGB
            `[H, W, 3]` pixels as uint8.
        spec: What to do.

    Returns:
        uint8 pixels `[spec.height, spec.width, spec.channels]`, 0 to 255.

    Raises:
        ImageError: The image is unreadable, of a format not allowed, too large, or not a still picture.
    """
    return fit_to_input(decode(source, spec), spec)


def decode(source: ImageSource, spec: PreprocessSpec) -> Image.Image:
    """Read an image upright, in grey or RGB of 8 bits, at the file's size or a JPEG's reduced one.

    A Pillow image that was opened from a JPEG but not yet loaded is read as the file would be, at the reduced size.

    Raises:
        ImageError: As for `preprocess`.
    """
    image = _open(source)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{_name(source)} has {width}x{height} pixels, more than the {MAX_PIXELS:,} allowed")
    mode = "L" if spec.channels == 1 else "RGB"
    try:
        if getattr(image, "n_frames", 1) > 1:
            raise ImageError(f"{_name(source)} holds more than one picture; save the one to be read by itself")
        if spec.jpeg_oversample:
            image.draft(mode, (spec.width * spec.jpeg_oversample, spec.height * spec.jpeg_oversample))
        return _eight_bits(ImageOps.exif_transpose(image), mode)
    except ImageError:
        raise
    except Exception as exc:  # on damaged files Pillow raises whatever its parsers trip over
        raise ImageError(f"{_name(source)} is damaged or incomplete ({exc}); copy or export it again") from exc


def fit_to_input(image: Image.Image, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Resize a decoded image to uint8 `[height, width, channels]` and normalise its intensity."""
    size = (spec.width, spec.height)
    resampling = Image.Resampling[spec.resize_filter.upper()]
    if spec.fit == "letterbox":
        fitted = ImageOps.pad(image, size, resampling)
    elif spec.fit == "crop":
        fitted = ImageOps.fit(image, size, resampling)
    else:
        fitted = image.resize(size, resampling)
    pixels = np.asarray(fitted, dtype=np.uint8).reshape(spec.height, spec.width, spec.channels)
    return _stretch_percentiles(pixels) if spec.intensity == "percentile" else pixels


def image_files(inputs: list[Path]) -> list[Path]:
    """List the image files among paths: files as given, folders searched in depth, in sorted order.

    Hidden files and folders inside a folder are passed over: a Mac leaves a `._name.jpeg` that is no picture beside
    every picture on a USB stick, and deleted ones in `.Trashes`.

    Raises:
        ImageError: A path does not exist, or a folder holds no file with a known image suffix.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if _is_visible_image(p, path))
            if not inside:
                raise ImageError(f"{path} holds no image file ({', '.join(sorted(IMAGE_SUFFIXES))})")
            found.extend(inside)
        elif path.exists():
            found.append(path)
        else:
            raise ImageError(f"{path} does not exist; give image files or folders of them")
    return found


def _is_visible_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _open(source: ImageSource) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return Image.open(file, formats=READABLE_FORMATS)
    except Image.DecompressionBombError as exc:
        raise ImageError(f"{_name(source)} has more than the {MAX_PIXELS:,} pixels allowed") from exc
    except UnidentifiedImageError as exc:
        what = "not a readable image" if _has_content(source) else "empty"
        raise ImageError(f"{_name(source)} is {what}; expected one of {', '.join(READABLE_FORMATS)}") from exc
    except OSError as exc:
        raise ImageError(f"{_name(source)} cannot be read ({exc.strerror or exc})") from exc
    except Exception as exc:  # on damaged files Pillow raises whatever its parsers trip over
        raise ImageError(f"{_name(source)} is damaged or incomplete ({exc}); copy or export it again") from exc


def _has_content(source: str | os.PathLike[str] | bytes) -> bool:
    return bool(source) if isinstance(source, bytes) else Path(source).stat().st_size > 0


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise ImageError(
            f"got an array of {pixels.dtype} {list(pixels.shape)}, expected uint8 [H, W], [H, W, 1] or [H, W, 3]"
        )
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """Convert to `L` or `RGB`; deeper greys are mapped linearly from their own range, alpha lies on black."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        deep = np.asarray(image, dtype=np.float64)
        low, high = float(deep.min()), float(deep.max())
        if not math.isfinite(high - low):
            raise ValueError("it has grey levels that are not finite numbers")
        scaled = (deep - low) * (255.0 / (high - low)) if high > low else np.zeros_like(deep)
        image = Image.fromarray(np.rint(scaled).astype(np.uint8))
    elif "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba)
    image.load()
    return image if image.mode == mode else image.convert(mode)


def _stretch_percentiles(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Map the grey levels at `PERCENTILES` to 0 and 255; by a histogram, so that no pixel is sorted."""
    counted = np.cumsum(np.bincount(pixels.ravel(), minlength=256))
    low, high = (int(np.searchsorted(counted, share / 100.0 * pixels.size)) for share in PERCENTILES)
    if high <= low:
        return pixels
    levels = (np.arange(256, dtype=np.float64) - low) * (255.0 / (high - low))
    table: NDArray[np.uint8] = np.rint(np.clip(levels, 0.0, 255.0)).astype(np.uint8)
    return np.take(table, pixels)


def _name(source: ImageSource) -> str:
    return "the image" if isinstance(source, bytes | Image.Image | np.ndarray) else os.fspath(source)
