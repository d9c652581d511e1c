from dataclasses import replace
from pathlib import Path

import pytest

from slimscan_edge.errors import InputError
from slimscan_train.config import (
    DEFAULT_RECIPE,
    FitConfig,
    TrainConfig,
    config_from,
    read_recipe,
    recipes,
    write_config,
)


def test_the_default_recipe_is_shipped() -> None:
    assert DEFAULT_RECIPE in recipes()


@pytest.mark.parametrize("name", recipes())
def test_every_shipped_recipe_is_read_and_written_back(name: str, tmp_path: Path) -> None:
    config = read_recipe(name)
    write_config(tmp_path / "config.toml", config)
    assert read_recipe(str(tmp_path / "config.toml")) == config


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.touch()
    assert read_recipe(str(path)) == TrainConfig()


@pytest.mark.parametrize(
    ("change", "table", "key", "value"),
    [
        ("fit.epochs=7", "fit", "epochs", 7),
        ("fit.learning_rate=1e-4", "fit", "learning_rate", 1e-4),
        (" fit.balance=weights", "fit", "balance", "weights"),
        ('fit.balance="none"', "fit", "balance", "none"),
        ("fit.balance=style", "fit", "balance", "style"),
        ("augment.flip=false", "augment", "flip", False),
        ('split.shift_series=["NORMAL2-IM", "virus"]', "split", "shift_series", ("NORMAL2-IM", "virus")),
        ("preprocess.fit=letterbox", "preprocess", "fit", "letterbox"),
    ],
)
def test_a_change_is_written_as_toml_writes_it(change: str, table: str, key: str, value: object) -> None:
    assert getattr(getattr(read_recipe("default", (change,)), table), key) == value


def test_the_last_change_holds() -> None:
    assert read_recipe("default", ("fit.epochs=1", "fit.epochs=2")).fit.epochs == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("fit.epoch=3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("fit.zzz=3", "unknown key 'zzz'; known keys are seed, epochs"),
        ("fits.epochs=3", "unknown table 'fits'; known are preprocess, split, model, augment, fit, operate"),
        ("fit.epochs", "expected table.key=value"),
        ("epochs=3", "expected table.key=value"),
        ("fit.epochs=", "expected table.key=value"),
        ("fit.epochs=0", r"table \[fit\]: epochs and patience must be at least 1"),
        ("fit.epochs=many", r"table \[fit\]"),
        ("fit.seed=-1", "seed is -1, expected 0 or more"),
        ("fit.balance=both", "balance is 'both', expected batches, style, weights or none"),
        ("model.outputs=3", "outputs is 3, expected 1 or 2"),
        ("operate.target_sensitivity=0.2", "expected 0.5 to 1"),
        ("augment.gamma=2", "gamma is 2.0, expected 0 to 1"),
        ("preprocess.height=4", "input size"),
    ],
)
def test_a_bad_change_is_refused(change: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_recipe("default", (change,))


def test_a_bad_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recipe 'absent'; known are default"):
        read_recipe("absent")
    for content, complaint in (
        (b"[fit", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"fit = 3", "expected a table"),
    ):
        path = tmp_path / "bad.toml"
        path.write_bytes(content)
        with pytest.raises(InputError, match=complaint):
            read_recipe(str(path))


@pytest.mark.parametrize(
    "bad",
    [{"batch": 1}, {"patience": 0}, {"learning_rate": 0.0}, {"weight_decay": 1.0}, {"label_smoothing": 0.5},
     {"weight_average": 1.0}],
)  # fmt: skip
def test_bounds_of_the_fit(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        FitConfig(**bad)


def test_two_configurations_are_equal_when_all_they_ask_is() -> None:
    assert config_from({"fit": {"epochs": 3}}, where="here") == replace(TrainConfig(), fit=FitConfig(epochs=3))
