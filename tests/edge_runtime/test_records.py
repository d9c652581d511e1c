import re
from dataclasses import dataclass

import pytest

from slimscan_edge.errors import InputError
from slimscan_edge.records import from_mapping


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
