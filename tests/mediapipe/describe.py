"""Run with MediaPipe's environment: a twin's metadata as MediaPipe's schema reads it, as one JSON object.

Usage: python describe.py METADATA (the flatbuffer by itself)
"""

import json
import sys
from pathlib import Path

from mediapipe.tasks.metadata import metadata_schema_py_generated as schema


def plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(each) for each in value]
    if hasattr(value, "__dict__"):
        return {name: plain(each) for name, each in vars(value).items() if each is not None}
    return value


raw = Path(sys.argv[1]).read_bytes()
if not schema.ModelMetadata.ModelMetadataBufferHasIdentifier(raw, 0):
    sys.exit("the metadata's file identifier is not MediaPipe's")
print(json.dumps(plain(schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(raw, 0)))))
