import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest

from slimscan_edge.errors import InputError
from slimscan_edge.records import from_mapping, read_json, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    epochs: int
    crops: tuple[float, ...] = ()
    rate: float = 1.0
    flip: bool = False
    size: tuple[int, str] = (1, "px")

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}, expected at least 1")


def test_lists_become_tuples_and_defaults_hold():
    assert from_mapping(Recipe, {"epochs": 3, "crops": [0.5, 1.0]}, where="t") == Recipe(epochs=3, crops=(0.5, 1.0))
    assert from_mapping(Recipe, {"epochs": 3}, where="t").crops == ()


def test_an_integer_will_do_for_a_float():
    read = from_mapping(Recipe, {"epochs": 3, "rate": 2, "crops": [1]}, where="t")
    assert [type(value) for value in (read.rate, *read.crops)] == [float, float]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"epochs": 3.0}, "epochs is 3.0, expected a whole number"),
        ({"epochs": True}, "epochs is True, expected a whole number"),
        ({"flip": "False"}, "flip is 'False', expected true or false"),
        ({"flip": 0}, "flip is 0, expected true or false"),
        ({"rate": "1"}, "rate is '1', expected a number"),
        ({"rate": None}, "rate is None, expected a number"),
        ({"crops": 0.5}, "crops is 0.5, expected a list"),
        ({"crops": "0.5"}, "crops is '0.5', expected a list"),
        ({"crops": [0.5, "1"]}, "crops is '1', expected a number"),
        ({"size": [1]}, "size holds 1 values, expected 2"),
        ({"size": ["px", 1]}, "size is 'px', expected a whole number"),
    ],
)
def test_a_value_of_another_type_is_refused(value, complaint):
    with pytest.raises(InputError, match=f"^t: {re.escape(complaint)}$"):
        from_mapping(Recipe, {"epochs": 3, **value}, where="t")


@pytest.mark.parametrize("table", [[], None, "epochs", 3])
def test_what_is_no_table_is_refused(table):
    with pytest.raises(InputError, match=r"^t: got \w+, expected a table"):
        from_mapping(Recipe, table, where="t")


def test_an_unknown_key_is_refused_with_the_nearest_known_name():
    with pytest.raises(InputError, match=r"config\.toml: unknown key 'epoch'; did you mean 'epochs'\?"):
        from_mapping(Recipe, {"epoch": 3}, where="config.toml")


def test_a_key_like_no_other_is_refused_with_all_known_names():
    with pytest.raises(InputError, match="known keys are epochs, crops"):
        from_mapping(Recipe, {"epochs": 3, "zzz": 1}, where="t")


@pytest.mark.parametrize("table", [{}, {"epochs": 0}, {"epochs": "three"}])
def test_an_absent_or_bad_value_is_refused_with_the_place(table):
    with pytest.raises(InputError, match=r"^the table: "):
        from_mapping(Recipe, table, where="the table")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    recipe: Recipe
    others: tuple[Recipe, ...] = ()
    prices: Mapping[str, float]
    state: Literal["open", "closed"] = "open"


def test_tables_become_records_where_these_are_wanted():
    table = {"recipe": {"epochs": 3}, "others": [{"epochs": 4}], "prices": {"a": 1}}
    read = from_mapping(Shelf, table, where="t")
    assert read == Shelf(recipe=Recipe(epochs=3), others=(Recipe(epochs=4),), prices={"a": 1.0})
    assert type(read.prices["a"]) is float


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"recipe": None}, "recipe: got NoneType, expected a table"),
        ({"recipe": {"epochs": "3"}}, "recipe: epochs is '3', expected a whole number"),
        ({"others": [None]}, "others: got NoneType, expected a table"),
        ({"prices": None}, "prices is None, expected a table of values"),
        ({"prices": [1]}, "prices is [1], expected a table of values"),
        ({"prices": {"a": True}}, "prices, 'a' is True, expected a number"),
        ({"state": "ajar"}, "state is 'ajar', expected one of open, closed"),
        ({"state": ["open"]}, "state is ['open'], expected one of open, closed"),
        ({"prices": {"a": 10**400}}, f"prices, 'a' is 1{'0' * 17}...{'0' * 19}, more than a number can be"),
    ],
)
def test_a_value_inside_is_told_with_its_place(value, complaint):
    with pytest.raises(InputError, match=f"^t: {re.escape(complaint)}$"):
        from_mapping(Shelf, {"recipe": {"epochs": 3}, "prices": {}, **value}, where="t")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"\xff",
        b'{"a": 1, "a": 1}',
        b'[{"a": {"b": 1, "b": 2}}]',
        b"NaN",
        b"[-Infinity]",
        b"1e999",
        b"9223372036854775808",
        b"1" * 5000,
        b"[" * 40 + b"]" * 40,
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b"[" * 100_000,
    ],
)
def test_json_has_one_form(raw):
    with pytest.raises(ValueError, match=r"^[^\n]{1,200}$"):
        read_json(raw)


def test_json_is_read_as_it_is_meant():
    assert read_json(b'{"a": [1, -9223372036854775807, 0.5, true, null, "\xc3\xa9"]}') == {
        "a": [1, -(2**63) + 1, 0.5, True, None, "é"]
    }


@pytest.mark.parametrize("value", ["r\udcf6ntgen", ["\ud800"], {"\udcff": ("\udcff", 1)}, "\\ud", "é\U0001f600"])
def test_json_that_is_written_is_unicode(value):
    told = json.loads(to_json({"it": value}))
    json.dumps(told, ensure_ascii=False).encode()  # strictly
