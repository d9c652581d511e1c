"""Networks that lost channels: cut in stages, recovered after each, taught by the right model, and kept."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from slimscan_edge.errors import InputError
from slimscan_export import ladder_networks
from slimscan_export.fine_tuning import FineTuneConfig
from slimscan_export.ladder_networks import FLOAT, Network, Networks, TrainingConfig
from slimscan_export.macs import keras_macs

pytestmark = pytest.mark.slow

SMALL_CUTS = (0.1, 0.2)
"""The squares' network is too narrow for larger ones."""


@pytest.fixture
def recovered(monkeypatch) -> list[Any]:
    """Networks that would have been trained on, in turn; training is proven elsewhere."""
    found: list[Any] = []
    monkeypatch.setattr(ladder_networks, "MACS_SAVED", SMALL_CUTS)
    monkeypatch.setattr(ladder_networks, "recover", lambda model, *_, teach: found.append(model))
    return found


def networks(run: Any, folder: Path, **config: Any) -> Networks:
    return Networks(run, TrainingConfig(**config), folder, lambda _: None)


def total(model: Any) -> int:
    return sum(keras_macs(model).values())


def test_a_deeper_cut_starts_from_the_recovered_smaller_one(squares_run, tmp_path, recovered, monkeypatch):
    cut: list[Any] = []
    prune = ladder_networks.prune_channels
    monkeypatch.setattr(
        ladder_networks, "prune_channels", lambda model, *rest: (cut.append(model), prune(model, *rest))[1]
    )
    found = networks(squares_run, tmp_path)
    deeper = found[Network(macs_saved=0.2)]
    assert cut == [found[FLOAT], recovered[0]]
    assert recovered[1] is deeper
    assert found[Network(macs_saved=0.1)] is recovered[0]
    before = total(found[FLOAT])
    assert total(deeper) <= 0.8 * before < total(recovered[0]) <= 0.9 * before


def test_what_was_trained_is_kept_until_it_would_be_trained_otherwise(squares_run, tmp_path, recovered):
    cut = Network(macs_saved=0.1)
    first = networks(squares_run, tmp_path)[cut]
    assert len(recovered) == 1
    assert total(networks(squares_run, tmp_path)[cut]) == total(first)
    assert len(recovered) == 1
    networks(squares_run, tmp_path, recovery=FineTuneConfig(epochs=3))[cut]
    assert len(recovered) == 2


def test_a_damaged_network_is_refused_by_name(squares_run, tmp_path, recovered):
    networks(squares_run, tmp_path)[Network(macs_saved=0.1)]
    (file,) = tmp_path.glob("channels-10.*.keras")
    file.write_bytes(b"no model")
    with pytest.raises(InputError, match=rf"{file.name} cannot be read as a model .*; remove it"):
        networks(squares_run, tmp_path)[Network(macs_saved=0.1)]


def test_the_float_network_teaches_unless_the_run_had_teachers(squares_run, tmp_path, recovered, monkeypatch):
    taught_by: list[list[Path]] = []

    class Listening(ladder_networks.Teacher):
        def __init__(self, runs: Any, *rest: Any) -> None:
            taught_by.append([run.folder for run in runs])
            super().__init__(runs, *rest)

    monkeypatch.setattr(ladder_networks, "Teacher", Listening)
    networks(squares_run, tmp_path / "alone")[Network(macs_saved=0.1)]
    (tmp_path / "teacher").symlink_to(squares_run.folder)
    taught = dataclasses.replace(squares_run, teachers=(tmp_path / "teacher",))
    networks(taught, tmp_path / "taught")[Network(macs_saved=0.1)]
    assert taught_by == [[squares_run.folder], [tmp_path / "teacher"]]
    gone = dataclasses.replace(squares_run, teachers=(tmp_path / "gone",))
    with pytest.raises(InputError, match=r"gone, which taught .*, is gone; put it back"):
        networks(gone, tmp_path / "untaught")[Network(macs_saved=0.1)]


def test_a_network_depends_on_the_run_and_on_how_it_is_trained(squares_run, copy_run, tmp_path):
    def made_from(network: Network, run: Any = squares_run, **config: Any) -> Any:
        return networks(run, tmp_path, **config).made_from(network)

    longer = {"tuning": FineTuneConfig(epochs=9)}
    assert made_from(FLOAT) == made_from(FLOAT, **longer)
    assert made_from(Network(aware=True)) != made_from(Network(aware=True), **longer)
    changed = dataclasses.replace(squares_run, folder=copy_run())
    assert made_from(FLOAT, changed) == made_from(FLOAT)
    with (changed.folder / "scores.csv").open("a") as file:
        file.write("\n")
    assert made_from(FLOAT, changed) != made_from(FLOAT)
