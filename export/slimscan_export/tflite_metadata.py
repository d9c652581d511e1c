"""TFLite's standard metadata of an image classifier, as MediaPipe Tasks and Android's tools read it.

The metadata is a flatbuffer of its own (file identifier `M001`, MediaPipe's `metadata_schema.fbs` 1.5.0) in a buffer of
the model named `TFLITE_METADATA`; the files that it names are a zip of stored members behind the model. The numbers of
fields below are the schema's.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import flatbuffers

from slimscan_export.splice import packed, unpacked

LABELS = "labels.txt"
FILE_IDENTIFIER = b"M001"
BUFFER_NAME = b"TFLITE_METADATA"
MIN_PARSER_VERSION = "1.0.0"

_FEATURE, _IMAGE = 1, 2  # union ContentProperties
_RGB = 1  # enum ColorSpaceType
_DESCRIPTIONS, _TENSOR_AXIS_LABELS = 1, 2  # enum AssociatedFileType


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierMetadata:
    """What is said of an image classifier that takes RGB pixels and gives one score a label.

    Attributes:
        name: Of the model.
        version: Of the model.
        description: Of the model.
        author: Who made it.
        licence: Of the model and its training data.
        image: What pictures it takes.
        scores: What its scores mean.
        labels: Of the scores, in their order.
        notes: Further files to carry, by name.
    """

    name: str
    version: str
    description: str
    author: str
    licence: str
    image: str
    scores: str
    labels: tuple[str, ...]
    notes: Mapping[str, bytes]


def with_metadata(model: bytes, metadata: ClassifierMetadata) -> bytes:
    """Put metadata into a model and its files behind it; the same content gives the same bytes.

    Args:
        model: A `.tflite` file with one input and one output.
        metadata: What to say of it.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    content = unpacked(model)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(_flatbuffer(metadata))
    content.buffers.append(buffer)
    entry.name, entry.buffer = BUFFER_NAME, len(content.buffers) - 1
    content.metadata = [entry]
    return _with_files(packed(content), {LABELS: "\n".join(metadata.labels).encode(), **metadata.notes})


def _with_files(model: bytes, files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _flatbuffer(metadata: ClassifierMetadata) -> bytes:
    write = _Writer()
    labels = write.table({0: write.text(LABELS), 2: _TENSOR_AXIS_LABELS})
    notes = [write.table({0: write.text(name), 2: _DESCRIPTIONS}) for name in metadata.notes]
    picture = write.table({0: _IMAGE, 1: write.table({0: _RGB})})
    numbers = write.table({0: _FEATURE, 1: write.table({})})
    taken = write.table({0: write.text("image"), 1: write.text(metadata.image), 3: picture})
    given = write.table(
        {0: write.text("scores"), 1: write.text(metadata.scores), 3: numbers, 6: write.vector([labels])}
    )
    graph = write.table({2: write.vector([taken]), 3: write.vector([given])})
    model = {
        0: write.text(metadata.name),
        1: write.text(metadata.description),
        2: write.text(metadata.version),
        3: write.vector([graph]),
        4: write.text(metadata.author),
        5: write.text(metadata.licence),
        6: write.vector(notes),
        7: write.text(MIN_PARSER_VERSION),
    }
    return write.finished(write.table(model))


class _Offset(int):
    """Where in a flatbuffer something lies, as told from a number."""


class _Writer:
    """A flatbuffer builder that takes tables as field numbers to values: an enumerator, or the offset of an object."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)

    def text(self, value: str) -> _Offset:
        return _Offset(self._builder.CreateString(value))

    def vector(self, objects: list[_Offset]) -> _Offset:
        self._builder.StartVector(4, len(objects), 4)
        for value in reversed(objects):
            self._builder.PrependUOffsetTRelative(value)
        return _Offset(self._builder.EndVector())

    def table(self, fields: Mapping[int, int]) -> _Offset:
        self._builder.StartObject(max(fields, default=-1) + 1)
        for field, value in fields.items():
            if isinstance(value, _Offset):
                self._builder.PrependUOffsetTRelativeSlot(field, value, 0)
            else:
                self._builder.PrependInt8Slot(field, value, 0)
        return _Offset(self._builder.EndObject())

    def finished(self, root: _Offset) -> bytes:
        self._builder.Finish(root, FILE_IDENTIFIER)
        return bytes(self._builder.Output())
