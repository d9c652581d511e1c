"""DICOM files: any bytes behind the mark end in a picture or in an `ImageError` of one line."""

import atheris
from harness import fuzz

with atheris.instrument_imports(include=["slimscan_edge", "pydicom"]):
    import pydicom.pixels.decoders  # noqa: F401 - else lazily, and unseen

    import slimscan_edge.dicom
    import slimscan_edge.dicom.greys  # noqa: F401
    from slimscan_edge.errors import ImageError
    from slimscan_edge.preprocess import PreprocessSpec, preprocess

SPEC = PreprocessSpec(height=16, width=16)


def try_one(raw: bytes) -> None:
    """Read it as DICOM, whatever it begins with."""
    marked = raw[:128].ljust(128, b"\0") + b"DICM" + raw[132:]
    try:
        pixels = preprocess(marked, SPEC)
    except ImageError as exc:
        if "\n" in str(exc) or "crashed" in str(exc):
            raise ValueError(f"not a reason: {exc}") from exc
        return
    if pixels.shape != (16, 16, 1):
        raise ValueError(f"pixels {pixels.shape}")


if __name__ == "__main__":
    fuzz(try_one, "DICOM")
