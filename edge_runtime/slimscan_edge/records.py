"""Reading frozen records back from JSON and TOML tables, refusing what they do not know."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from slimscan_edge.errors import InputError

RecordT = TypeVar("RecordT")


def from_mapping(record_type: type[RecordT], table: Mapping[str, Any], *, where: str) -> RecordT:
    """Build a frozen dataclass from a table of plain values.

    Lists become tuples. Values are checked by the record's own `__post_init__`.

    Args:
        record_type: A dataclass whose fields are plain values or tuples of them.
        table: Field name to value, as JSON or TOML gives it.
        where: What the table is, for the message ("config.toml, table [train]").

    Raises:
        InputError: An unknown key (the nearest known name is given), an absent one, or a bad value.
    """
    fields = {field.name: field for field in dataclasses.fields(record_type)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            import difflib  # not at import: nothing but this message needs it

            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known keys are {', '.join(fields)}"
            raise InputError(f"{where}: unknown key {key!r}{hint}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    try:
        return record_type(**values)
    except (TypeError, ValueError) as exc:
        raise InputError(f"{where}: {exc}") from exc
