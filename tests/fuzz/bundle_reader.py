"""Bundles: any bytes, and any manifest with right hashes, end in a bundle or in a `BundleError` of one line."""

import contextlib
import hashlib
import io
import json
import zipfile

import atheris
from harness import fuzz

with atheris.instrument_imports(include=["slimscan_edge", "zipfile", "json"]):
    from slimscan_edge.bundle import parse_bundle
    from slimscan_edge.errors import BundleError

MODEL = b"no model, but bytes that have a hash"


def try_one(raw: bytes) -> None:
    """Read it as a bundle; what is no zip is taken for the manifest of one."""
    content = raw if raw[:2] == b"PK" else _around(raw)
    try:
        parse_bundle(content, name="it")
    except BundleError as exc:
        if "\n" in str(exc):
            raise ValueError("a reason of more than one line") from exc


def _around(manifest: bytes) -> bytes:
    """A bundle of one member and this manifest, whose list of members is set right if it has one."""
    with contextlib.suppress(ValueError, RecursionError):
        table = json.loads(manifest)
        if isinstance(table, dict) and "members" in table:
            table["members"] = {"model.tflite": {"size_bytes": len(MODEL), "sha256": hashlib.sha256(MODEL).hexdigest()}}
            manifest = (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (("manifest.json", manifest), ("model.tflite", MODEL)):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            archive.writestr(info, content)
    return buffer.getvalue()


def _golden_manifest() -> bytes:
    from mutations import GOLDEN

    with zipfile.ZipFile(GOLDEN) as archive:
        return archive.read("manifest.json")


if __name__ == "__main__":
    fuzz(try_one, "bundle", more=[_golden_manifest()])
