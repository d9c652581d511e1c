"""Reading a benchmark's record back from its JSON: frozen dataclasses inside each other, by their annotations."""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from slimscan_edge.errors import InputError

RecordT = TypeVar("RecordT")


def read_record(record_type: type[RecordT], table: Mapping[str, Any], *, where: str) -> RecordT:
    """Build a record from the table that `dataclasses.asdict` made of one like it.

    Fields that the table leaves out take their defaults, so that records of older versions can be read.

    Args:
        record_type: A dataclass of plain values, tuples, mappings from strings and other such dataclasses.
        table: From JSON.
        where: What the table is, for the message.

    Raises:
        InputError: A key is unknown or absent, or a value is of another kind.
    """
    built: RecordT = _record(record_type, table, where)
    return built


def _record(record_type: Any, table: Any, where: str) -> Any:
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: got {type(table).__name__}, expected a table")
    hints = get_type_hints(record_type)
    if unknown := [key for key in table if key not in hints]:
        raise InputError(f"{where}: unknown key {unknown[0]!r}; it was written by another version of slimscan")
    fields = {field.name: field for field in dataclasses.fields(record_type)}
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if absent := [name for name in required if name not in table]:
        raise InputError(f"{where}: {absent[0]!r} is absent; it was written by another version of slimscan")
    return record_type(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in table.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _record(hint, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (hint,) = (argument for argument in arguments if argument is not type(None))
        return _value(hint, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is not None and issubclass(origin if isinstance(origin, type) else object, Mapping):
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: got {type(value).__name__}, expected a table")
        return {key: _value(arguments[1], found, f"{where}.{key}") for key, found in value.items()}
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where}: got {value!r}, expected one of {', '.join(map(str, arguments))}")
        return value
    return _plain(hint, value, where)


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(f"{where}: got {type(value).__name__}, expected a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_value(arguments[0], found, f"{where}[{i}]") for i, found in enumerate(value))
    if len(value) != len(arguments):
        raise InputError(f"{where}: got {len(value)} values, expected {len(arguments)}")
    return tuple(_value(hint, found, where) for hint, found in zip(arguments, value, strict=True))


def _plain(hint: Any, value: Any, where: str) -> Any:
    """A string, a number or a truth value; an integer will do for a float."""
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise InputError(f"{where}: got {value!r}, expected {getattr(hint, '__name__', hint)}")
    return value
