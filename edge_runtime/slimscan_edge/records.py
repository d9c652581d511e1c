"""Reading frozen records back from JSON and TOML tables, refusing what they do not know."""

import functools
import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from slimscan_edge.errors import InputError

RecordT = TypeVar("RecordT")

MAX_DEPTH = 32
"""Lists and objects inside each other, from which on JSON is refused; what slimscan writes has at most six."""
_LARGEST_INTEGER = 2**63

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100
shortened = _short.repr
"""What a message calls a value that may be of any size."""


def read_json(raw: bytes) -> Any:
    """Plain values from JSON in its one form: UTF-8, each key once, finite numbers, integers of 64 bits.

    Raises:
        ValueError: It is none, or is nested deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_each_key_once,
            parse_float=_finite,
            parse_int=_integer,
            parse_constant=_finite,
        )
        _require_depth(value, MAX_DEPTH)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}") from None
    return value


def to_json(value: Any, **options: Any) -> str:
    """Plain values as JSON that any reader takes: what is no UTF-8 in a name is escaped, and is a text all the same.

    Args:
        value: Plain values.
        options: Of `json.dumps`; without `allow_nan=True` each number has to be finite.

    Raises:
        ValueError: A number is not finite.
    """
    options = {"allow_nan": False, **options}
    text = json.dumps(value, **options)
    # Python keeps such bytes of a name as U+DC80 to U+DCFF, which by themselves are no Unicode text.
    return json.dumps(_as_unicode(value), **options) if "\\ud" in text else text


def from_mapping(record_type: type[RecordT], table: Mapping[str, Any], *, where: str) -> RecordT:
    """Build a frozen dataclass from a table of plain values.

    Lists become tuples, tables records where one is wanted and, where a float is wanted, integers floats. Types are
    checked here, values by the record's own `__post_init__`.

    Args:
        record_type: A dataclass whose fields are plain values, records, or tuples or mappings of them.
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
            raise InputError(f"{where}: unknown key {shortened(key)}{hint}")
    values = {key: _typed(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return record_type(**values)
    except (TypeError, ValueError) as exc:
        raise InputError(f"{where}: {exc}") from exc


@functools.cache
def _hints(record_type: type[Any]) -> dict[str, Any]:
    return get_type_hints(record_type)


def _typed(hint: Any, value: Any, what: str) -> Any:
    """A value as its hint wants it; hints of other kinds are left to the record."""
    origin = get_origin(hint)
    if origin is tuple:
        return _typed_list(get_args(hint), value, what)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise InputError(f"{what} is {shortened(value)}, expected a table of values")
        each = get_args(hint)[1]
        return {key: _typed(each, found, f"{what}, {shortened(key)}") for key, found in value.items()}
    if origin is Literal and (type(value) is not str or value not in get_args(hint)):
        raise InputError(f"{what} is {shortened(value)}, expected one of {', '.join(get_args(hint))}")
    if isinstance(hint, type) and is_dataclass(hint):
        return value if isinstance(value, hint) else from_mapping(hint, value, where=what)
    if isinstance(value, list):
        return tuple(value)
    if hint is float and type(value) is int:
        return _as_float(value, what)
    if hint in (bool, int, float, str) and type(value) is not hint:
        raise InputError(f"{what} is {shortened(value)}, expected {_IN_WORDS[hint]}")
    return value


_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _typed_list(of: tuple[Any, ...], value: Any, what: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InputError(f"{what} is {shortened(value)}, expected a list")
    each = of[:1] * len(value) if of[1:] == (Ellipsis,) else of
    if len(each) != len(value):
        raise InputError(f"{what} holds {len(value)} values, expected {len(each)}")
    return tuple(_typed(one, found, what) for one, found in zip(each, value, strict=True))


def _as_float(value: int, what: str) -> float:
    try:
        return float(value)
    except OverflowError as exc:
        raise InputError(f"{what} is {shortened(value)}, more than a number can be") from exc


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {shortened(next(key for key in keys if keys.count(key) > 1))} is there twice")
    return table


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _integer(text: str) -> int:
    # by its length first: Python refuses thousands of digits with words about itself
    if len(text) > 20 or abs(int(text)) >= _LARGEST_INTEGER:
        raise ValueError(f"{text[:20]}... is no integer of 64 bits")
    return int(text)


def _require_depth(value: Any, depth: int) -> None:
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
        for inner in value.values() if isinstance(value, dict) else value:
            _require_depth(inner, depth - 1)


def _as_unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_as_unicode(key): _as_unicode(inner) for key, inner in value.items()}
    return [_as_unicode(inner) for inner in value] if isinstance(value, list | tuple) else value
