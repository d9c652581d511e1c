"""What an ONNX file says of its model, without the onnx package: its metadata properties.

An ONNX file is a protobuf message; its field 14 repeats a message of two strings, key (1) and value (2)
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). All other fields are skipped by their wire type
(https://protobuf.dev/programming-guides/encoding/).
"""

from collections.abc import Iterator

from slimscan_edge.errors import InputError

_METADATA_PROPS = 14


def onnx_properties(content: bytes, *, name: str) -> dict[str, str]:
    """The metadata properties by key.

    Args:
        content: Bytes of the file.
        name: Of the file, for the message.

    Raises:
        InputError: It is no such file.
    """
    try:
        entries = [dict(_fields(value)) for number, value in _fields(content) if number == _METADATA_PROPS]
        return {entry[1].decode(): entry.get(2, b"").decode() for entry in entries}
    except (IndexError, KeyError, UnicodeDecodeError, ValueError) as exc:
        raise InputError(f"{name} is no ONNX file; make one by: slimscan export RUN --out BUNDLE --onnx FILE") from exc


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each field; fields of fixed size and integers come without bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        size = 0
        match tag & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 2:
                size, at = _varint(message, at)
            case 5:
                at += 4
            case kind:
                raise ValueError(f"wire type {kind}")
        if at + size > len(message):
            raise ValueError("cut off")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
