"""Reading frozen records back from JSON and TOML tables, refusing what they do not know."""

import functools
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from slimscan_edge.errors import InputError

RecordT = TypeVar("RecordT")


def from_mapping(record_type: type[RecordT], table: Mapping[str, Any], *, where: str) -> RecordT:
    """Build a frozen dataclass from a table of plain values.

    Lists become tuples and, where a float is wanted, integers floats. Types are checked here, values by the record's
    own `__post_init__`.

    Args:
        record_type: A dataclass whose fields are plain values or tuples of them.
        table: Field name to value, as JSON or TOML gives it.
        where: What the table is, for the message ("config.toml, table [train]").

    Raises:
        InputError: No table, an unknown key (the nearest known name is given), an absent one, a value of another type
            or a bad one.
    """
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: got {type(table).__name__}, expected a table")
    hints = _hints(record_type)  # type: ignore[arg-type]
    for key in table:
        if key not in hints:
            import difflib  # not at import: nothing but this message needs it

            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known keys are {', '.join(hints)}"
            raise InputError(f"{where}: unknown key {key!r}{hint}")
    values = {key: _typed(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return record_type(**values)
    except (TypeError, ValueError) as exc:
        raise InputError(f"{where}: {exc}") from exc


@functools.cache
def _hints(record_type: type[Any]) -> dict[str, Any]:
    return get_type_hints(record_type)


def _typed(hint: Any, value: Any, what: str) -> Any:
    """A value as its hint wants it; hints other than plain types and tuples of them are left to the record."""
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{what} is {value!r}, expected a list")
        of = get_args(hint)
        each = of[:1] * len(value) if of[1:] == (Ellipsis,) else of
        if len(each) != len(value):
            raise InputError(f"{what} holds {len(value)} values, expected {len(each)}")
        return tuple(_typed(one, found, what) for one, found in zip(each, value, strict=True))
    if isinstance(value, list):
        return tuple(value)
    if hint is float and type(value) is int:
        return float(value)
    if hint in (bool, int, float, str) and type(value) is not hint:
        raise InputError(f"{what} is {value!r}, expected {_IN_WORDS[hint]}")
    return value


_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
