"""The device runtime of slimscan: NumPy, Pillow and one TFLite interpreter, nothing else."""

TYPE_CHECKING = False  # as in typing, whose import would take longer than the rest of a command's first milliseconds
if TYPE_CHECKING:
    from typing import Any

    from slimscan_edge.bundle import Bundle as Bundle
    from slimscan_edge.bundle import Manifest as Manifest
    from slimscan_edge.bundle import read_bundle as read_bundle
    from slimscan_edge.classifier import Classifier as Classifier
    from slimscan_edge.classifier import Finding as Finding
    from slimscan_edge.errors import SlimscanError as SlimscanError
    from slimscan_edge.operating_point import OperatingPoint as OperatingPoint
    from slimscan_edge.preprocess import PreprocessSpec as PreprocessSpec

__version__ = "0.8.0"

_HOME = {
    "Bundle": "bundle",
    "Classifier": "classifier",
    "Finding": "classifier",
    "Manifest": "bundle",
    "OperatingPoint": "operating_point",
    "PreprocessSpec": "preprocess",
    "SlimscanError": "errors",
    "read_bundle": "bundle",
}


def __getattr__(name: str) -> "Any":
    """Import a public name when it is first used, so that `slimscan --help` loads neither NumPy nor Pillow."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"slimscan_edge.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
