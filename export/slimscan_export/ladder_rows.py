"""The rows of the compression ladder: what each is, and its file, kept so that a stopped ladder goes on."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.atomic import write_atomically
from slimscan_export.calibration import CalibrationConfig
from slimscan_export.calibration_audit import calibration_pixels, require_unsaturated
from slimscan_export.convert import Precision, convert, saved_model
from slimscan_export.ladder_networks import FLOAT, Network, Networks
from slimscan_train.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One row: a network in a precision."""

    name: str
    precision: Precision
    network: Network = FLOAT

    @property
    def words(self) -> str:
        """The recipe in words."""
        return f"{self.precision}, {self.network.words}"

    @property
    def unpruned(self) -> "Recipe | None":
        """The row that is made in the same way but for the pruning; None when this one is not pruned."""
        if not self.network.pruned:
            return None
        network = Network(aware=self.network.aware)
        return next(r for r in RECIPES.values() if r.precision == self.precision and r.network == network)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="float32", precision="float32"),
        Recipe(name="float16", precision="float16"),
        Recipe(name="dynamic", precision="dynamic"),
        Recipe(name="int16x8", precision="int16x8"),
        Recipe(name="int8-ptq", precision="int8"),
        Recipe(name="int8-qat", precision="int8", network=Network(aware=True)),
        Recipe(name="zeros-50", precision="int8", network=Network(zeros=0.5, aware=True)),
        Recipe(name="zeros-75", precision="int8", network=Network(zeros=0.75, aware=True)),
        Recipe(name="channels-25", precision="int8", network=Network(macs_saved=0.25)),
        Recipe(name="channels-50", precision="int8", network=Network(macs_saved=0.5)),
    )
}
"""Every row that there is, by name."""


def with_references(names: Sequence[str]) -> tuple[Recipe, ...]:
    """The named rows and what they are held against, in the order of `RECIPES`.

    That is float32 for all of them, and for a pruned row the same recipe without pruning.
    """
    references = {reference.name for name in names if (reference := RECIPES[name].unpruned)}
    return tuple(recipe for name, recipe in RECIPES.items() if name in {"float32", *names, *references})


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The file of one row.

    Attributes:
        recipe: What was asked.
        model: The bytes of the `.tflite` file.
        training_s: Seconds of the training that it took beyond the rows before it.
        conversion_s: Seconds of the conversion itself.
    """

    recipe: Recipe
    model: bytes
    training_s: float
    conversion_s: float

    @property
    def sha256(self) -> str:
        """Of the file, hexadecimal."""
        return hashlib.sha256(self.model).hexdigest()


class Workshop:
    """Makes rows' files, and keeps `ROW.tflite` and what it was made from, `ROW.json`, in a folder."""

    def __init__(
        self,
        run: Run,
        networks: Networks,
        calibration: CalibrationConfig,
        folder: Path,
        note: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            run: A finished run.
            networks: Of the run.
            calibration: Training images that integer ranges are measured on.
            folder: Where files are kept.
            note: Told one line of plain text as work goes on.
        """
        self._run, self._networks, self._calibration = run, networks, calibration
        self._folder, self._note = folder, note

    def make(self, recipes: Sequence[Recipe]) -> Iterator[Made]:
        """The files of some rows, each as soon as it is there; rows of one network share its SavedModel.

        Raises:
            InputError: The run's images are gone, too few or not fit to calibrate on, or the folder cannot be written.
        """
        by_network: dict[Network, list[Recipe]] = {}
        for recipe in recipes:
            if kept := self._read(recipe):
                yield kept
            else:
                by_network.setdefault(recipe.network, []).append(recipe)
        for network, members in by_network.items():
            yield from self._convert(network, members)

    def _convert(self, network: Network, recipes: Sequence[Recipe]) -> Iterator[Made]:
        start = perf_counter()
        model = self._networks[network]
        training_s = perf_counter() - start if network != FLOAT else 0.0
        with saved_model(model, quantisation_aware=network.aware) as saved:
            for recipe in recipes:
                calibrated = recipe.precision in ("int8", "int16x8") and not network.aware
                pixels = self._calibration_pixels if calibrated else None
                start = perf_counter()
                file = convert(saved, recipe.precision, pixels)
                seconds = round(perf_counter() - start, 1)
                if pixels is not None and recipe.precision == "int8":
                    require_unsaturated(file, pixels)
                self._note(f"{recipe.name}: {len(file):,} bytes, converted in {seconds} s")
                made = Made(recipe=recipe, model=file, training_s=round(training_s, 1), conversion_s=seconds)
                self._write(made)
                yield made

    def _read(self, recipe: Recipe) -> Made | None:
        """A row that was made before from the same things."""
        try:
            table = json.loads((self._folder / f"{recipe.name}.json").read_text())
            model = (self._folder / f"{recipe.name}.tflite").read_bytes()
            made = Made(recipe=recipe, model=model, **table["seconds"])
        except (OSError, ValueError, TypeError, KeyError):  # never finished, or of another version
            return None
        if table["made_from"] != self._made_from(recipe) or table["sha256"] != made.sha256:
            return None
        self._note(f"{recipe.name}: {len(model):,} bytes, kept from before")
        return made

    def _write(self, made: Made) -> None:
        name = made.recipe.name
        table = {
            "sha256": made.sha256,
            "made_from": self._made_from(made.recipe),
            "seconds": {"training_s": made.training_s, "conversion_s": made.conversion_s},
        }
        write_atomically(self._folder / f"{name}.tflite", made.model)
        write_atomically(self._folder / f"{name}.json", (json.dumps(table, indent=1) + "\n").encode())

    def _made_from(self, recipe: Recipe) -> dict[str, Any]:
        """All that a row depends on, as JSON gives it back."""
        table = {
            **self._networks.made_from(recipe.network),
            "precision": recipe.precision,
            "calibration": asdict(self._calibration),
        }
        plain: dict[str, Any] = json.loads(json.dumps(table))
        return plain

    @cached_property
    def _calibration_pixels(self) -> NDArray[np.uint8]:
        return calibration_pixels(self._run, self._calibration)[1]
