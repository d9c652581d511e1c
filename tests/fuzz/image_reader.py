"""Pictures of every format: any bytes end in a picture of the mode asked for, or in an `ImageError` of one line."""

import atheris
from harness import fuzz

with atheris.instrument_imports(include=["slimscan_edge", "PIL"]):
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin  # noqa: F401 - else lazily

    from slimscan_edge.errors import ImageError
    from slimscan_edge.preprocess import PreprocessSpec, preprocess

SPEC = PreprocessSpec(height=16, width=16)


def try_one(raw: bytes) -> None:
    """Read it as a picture."""
    if raw[128:132] == b"DICM":  # has its own harness
        return
    try:
        pixels = preprocess(raw, SPEC)
    except ImageError as exc:
        if "\n" in str(exc):
            raise ValueError("a reason of more than one line") from exc
        return
    if pixels.shape != (16, 16, 1):
        raise ValueError(f"pixels {pixels.shape}")


if __name__ == "__main__":
    fuzz(try_one, "JPEG", "PNG", "TIFF", "BMP")
