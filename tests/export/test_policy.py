"""The policy file: every value is said, and what is not known or not allowed is refused in one line."""

import dataclasses
import tomllib
from pathlib import Path

import pytest
import tomli_w

from slimscan_edge.errors import InputError
from slimscan_export.exporting import ExportConfig
from slimscan_export.policy import GatePolicy, policies, read_policy, strict_policy


@pytest.fixture
def write(tmp_path: Path):
    """The strict policy with changes, `{"whole.new_misses.margin": 0.1}`; None leaves a key out."""

    def written(changes: dict[str, object]) -> str:
        tables = tomllib.loads(policies()["strict"].read_text())
        for place, value in changes.items():
            *parents, key = place.split(".")
            table = tables
            for parent in parents:
                table = table[parent]
            if value is None:
                del table[key]
            else:
                table[key] = value
        path = tmp_path / "policy.toml"
        path.write_text(tomli_w.dumps(tables))
        return str(path)

    return written


def test_the_strict_policy_is_the_default_and_knows_its_name():
    strict = strict_policy()
    assert strict == read_policy("strict") == ExportConfig(name="some", version="0.1.0").policy
    assert strict.name == "strict"
    assert (strict.whole.new_misses.observed, strict.whole.new_misses.margin) == (0.01, 0.02)


def test_every_policy_that_is_shipped_can_be_read_and_is_named_after_its_file():
    assert {read_policy(name).name for name in policies()} == policies().keys()


def test_a_file_changes_what_it_says(write):
    looser = read_policy(write({"name": "looser", "whole.new_misses.margin": 0.1, "model.size_bytes": 10}))
    assert (looser.name, looser.whole.new_misses.margin, looser.model.size_bytes) == ("looser", 0.1, 10)
    assert looser.whole.sensitivity == strict_policy().whole.sensitivity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"whole.new_mises": 1}, r"table \[whole\]: unknown key 'new_mises'; did you mean 'new_misses'\?"),
        ({"shfts": {}}, "unknown key 'shfts'; did you mean 'shifts'"),
        ({"whole.auroc.most": 0.1}, r"\[whole\], auroc: unknown key 'most'; known keys are observed, margin"),
        ({"shifts": None}, "shifts not said; a policy says every value"),
        ({"whole.auroc": None}, r"\[whole\]: auroc not said"),
        ({"whole.auroc.observed": None}, r"\[whole\], auroc: observed not said"),
        ({"shifts": 3}, r"'shifts' is a value, expected a table \[shifts\]"),
        ({"whole.auroc": 0.01}, r"auroc is 0.01, expected \{ observed = SHARE, margin = SHARE \}"),
        ({"whole.auroc.margin": 0.5}, "margin is 0.5, expected above 0 and below 0.5"),
        ({"whole.auroc.margin": 0}, "margin is 0.0, expected above 0"),
        ({"whole.auroc.margin": "small"}, "margin is 'small', expected a number"),
        ({"whole.auroc.observed": 0.02}, "observed is 0.02, expected 0 to the margin of 0.01"),
        ({"subgroups.new_misses.observed": True}, "observed is True, expected a number"),
        ({"confidence": 0.5}, "confidence is 0.5, expected above 0.5 and below 1"),
        ({"name": ""}, "name is '', expected what reports are to call"),
        ({"error_ratio.most": 0.9}, "most is 0.9 and least_miss_rate 0.005, expected 1 or more"),
        ({"error_ratio.least_miss_rate": 0}, "least_miss_rate 0.0, expected 1 or more and 0 to 0.5"),
        ({"model.size_bytes": 0}, "size_bytes is 0, expected above 0"),
        ({"model.near_threshold": float("nan")}, "near_threshold is nan, expected a number"),
    ],
)
def test_what_a_policy_must_not_say(write, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        read_policy(write(changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe"])
def test_a_file_that_is_no_toml(tmp_path, content):
    path = tmp_path / "policy.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not TOML"):
        read_policy(str(path))


def test_a_policy_that_is_not_there():
    with pytest.raises(InputError, match=r"no policy 'srict'; known are .*strict.*, or give a TOML file"):
        read_policy("srict")


def test_no_value_has_a_default():
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(GatePolicy))
