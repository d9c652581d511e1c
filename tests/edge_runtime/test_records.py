from dataclasses import dataclass

import pytest

from slimscan_edge.errors import InputError
from slimscan_edge.records import from_mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    epochs: int
    crops: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}, expected at least 1")


def test_lists_become_tuples_and_defaults_hold():
    assert from_mapping(Recipe, {"epochs": 3, "crops": [0.5, 1.0]}, where="t") == Recipe(epochs=3, crops=(0.5, 1.0))
    assert from_mapping(Recipe, {"epochs": 3}, where="t").crops == ()


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
