"""Records read back from JSON."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from slimscan_bench.reading import read_record
from slimscan_edge.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    name: str
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...]
    pair: tuple[int, str]
    table: Mapping[str, tuple[float, ...]]
    kind: Literal["one", "two"]
    perhaps: float | None
    known: bool = True
    extra: Mapping[str, Inner] = field(default_factory=dict)


RECORD = Outer(
    inner=Inner(name="a"),
    many=(Inner(name="b", share=0.5), Inner(name="c")),
    pair=(1, "x"),
    table={"k": (1.0, 2.5)},
    kind="two",
    perhaps=None,
    extra={"z": Inner(name="d")},
)


def as_json(record: Outer) -> dict[str, object]:
    table: dict[str, object] = json.loads(json.dumps(dataclasses.asdict(record)))
    return table


def test_what_was_written_is_read():
    assert read_record(Outer, as_json(RECORD), where="it") == RECORD


def test_a_field_of_a_newer_version_takes_its_default():
    table = as_json(RECORD)
    del table["known"], table["extra"]
    assert read_record(Outer, table, where="it") == dataclasses.replace(RECORD, extra={})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"other": 1}, "it: unknown key 'other'"),
        ({"inner": {"share": 1.0}}, "it.inner: 'name' is absent"),
        ({"inner": 3}, "it.inner: got int, expected a table"),
        ({"pair": [1]}, "it.pair: got 1 values, expected 2"),
        ({"many": "b"}, "it.many: got str, expected a list"),
        ({"table": {"k": ["x"]}}, r"it.table.k\[0\]: got 'x', expected float"),
        ({"table": [1]}, "it.table: got list, expected a table"),
        ({"kind": "three"}, "it.kind: got 'three', expected one of one, two"),
        ({"known": 1}, "it.known: got 1, expected bool"),
        ({"perhaps": True}, "it.perhaps: got True, expected float"),
    ],
)
def test_anything_else_is_refused_in_one_line(change, words):
    with pytest.raises(InputError, match=f"^{words}"):
        read_record(Outer, {**as_json(RECORD), **change}, where="it")
