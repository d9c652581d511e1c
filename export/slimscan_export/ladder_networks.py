"""The networks that the rows of the compression ladder are converted from, each trained once.

A narrower network goes through every smaller cut first and recovers in between: what a stage learnt is the start of
the next, and both are rows.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from slimscan_edge.errors import InputError
from slimscan_export.calibration import CalibrationConfig, draw_calibration
from slimscan_export.channel_pruning import prune_channels
from slimscan_export.fine_tuning import FineTuneConfig, prune, quantisation_aware, recover
from slimscan_export.macs import keras_macs
from slimscan_export.provenance import tool_versions
from slimscan_train.batches import TrainingSet
from slimscan_train.distillation import Teacher
from slimscan_train.fit import Teach
from slimscan_train.run import Run, read_run
from slimscan_train.training import training_set

MACS_SAVED = (0.25, 0.5)
"""The cuts of channel pruning: shares of the float network's multiply-accumulates."""

IMPORTANCE = CalibrationConfig(images=128)
"""Training images that tell which channels matter."""

RECOVERY = FineTuneConfig(epochs=8, learning_rate=1e-3)
"""After each cut, unless another is asked for."""

_RUN_FILES = ("config.toml", "split.json", "model.keras", "operating_point.json", "scores.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What is done to the float network.

    Attributes:
        zeros: Share of each pointwise kernel that magnitude pruning sets to zero.
        macs_saved: Share of the multiply-accumulates that channel pruning takes away, 0 or one of `MACS_SAVED`.
        aware: It is trained on with the int8 grid in the loop.
    """

    zeros: float = 0.0
    macs_saved: float = 0.0
    aware: bool = False

    @property
    def pruned(self) -> bool:
        """Either way."""
        return self.zeros > 0 or self.macs_saved > 0

    @property
    def words(self) -> str:
        """What is done, in words."""
        said = [f"{self.zeros:.0%} zeros"] if self.zeros else []
        said += [f"channels pruned by {self.macs_saved:.0%} of the multiply-accumulates"] if self.macs_saved else []
        said += ["quantisation-aware training"] if self.aware else []
        return ", ".join(said) or "the float network as it is"


FLOAT = Network()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How networks are trained on.

    Attributes:
        tuning: Magnitude pruning and quantisation-aware training.
        recovery: After channels were lost.
    """

    tuning: FineTuneConfig = field(default_factory=FineTuneConfig)
    recovery: FineTuneConfig = RECOVERY


class Networks:
    """The networks of one run, made when they are asked for; those that lost channels are kept in a folder."""

    def __init__(self, run: Run, config: TrainingConfig, folder: Path, note: Callable[[str], None]) -> None:
        """Prepare; nothing is read yet.

        Args:
            run: A finished run.
            config: How networks are trained on.
            folder: Where narrower networks are kept.
            note: Told one line of plain text as work goes on.
        """
        self._run, self._config, self._folder, self._note = run, config, folder, note
        self._made: dict[Network, Any] = {}

    def __getitem__(self, network: Network) -> Any:
        """A Keras model."""
        if network not in self._made:
            self._made[network] = self._make(network)
        return self._made[network]

    def made_from(self, network: Network) -> dict[str, Any]:
        """All that a network depends on, as JSON gives it back: another table is another network."""
        table: dict[str, Any] = {"run": self._run_digest, "network": asdict(network), "tools": tool_versions()}
        if network != FLOAT:
            table |= {"training": asdict(self._config), "teachers": [str(teacher) for teacher in self._run.teachers]}
        if network.macs_saved:
            table["importance"] = asdict(IMPORTANCE)
        return table

    @cached_property
    def _run_digest(self) -> str:
        digest = hashlib.sha256()
        for name in _RUN_FILES:
            digest.update((self._run.folder / name).read_bytes())
        return digest.hexdigest()

    def _make(self, network: Network) -> Any:
        if network == FLOAT:
            return self._run.model()
        if network.macs_saved and not network.aware:
            return self._kept(network)
        before = self[replace(network, aware=False) if network.aware else FLOAT]
        config, tuning = self._run.config, self._config.tuning
        self._note(f"{network.words}: {tuning.epochs} epochs")
        if network.aware:
            zeros = network.zeros > 0
            return quantisation_aware(before, self._train, config, tuning, keep_zeros=zeros, teach=self._teach)
        return prune(before, network.zeros, self._train, config, tuning, teach=self._teach)

    def _kept(self, network: Network) -> Any:
        """A narrower network from the folder, or made and put there."""
        import tf_keras

        told = json.dumps(self.made_from(network), sort_keys=True).encode()
        file = self._folder / f"channels-{100 * network.macs_saved:.0f}.{hashlib.sha256(told).hexdigest()[:12]}.keras"
        if file.exists():
            try:
                return tf_keras.models.load_model(file, compile=False)
            except (OSError, ValueError) as exc:
                raise InputError(f"{file} cannot be read as a model ({exc}); remove it") from exc
        model = self._narrower(network.macs_saved)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.keras")
        model.save(partial)
        partial.replace(file)
        return model

    def _narrower(self, macs_saved: float) -> Any:
        wider = self[Network(macs_saved=max((cut for cut in MACS_SAVED if cut < macs_saved), default=0.0))]
        before, recovery = sum(keras_macs(self[FLOAT]).values()), self._config.recovery
        pixels = self._run.pixels(draw_calibration(self._run.split, IMPORTANCE))
        model = prune_channels(wider, round((1 - macs_saved) * before), pixels)
        after = sum(keras_macs(model).values())
        self._note(f"{after:,} of {before:,} multiply-accumulates left; recovering for {recovery.epochs} epochs")
        recover(model, self._train, self._run.config, recovery, teach=self._teach)
        return model

    @cached_property
    def _train(self) -> TrainingSet:
        return training_set(self._run.split, self._run.config, self._run.data_root, self._note)

    @cached_property
    def _teach(self) -> Teach:
        """Who teaches every training of the ladder: the teachers of the run, else its float network."""
        if gone := [folder for folder in self._run.teachers if not folder.exists()]:
            raise InputError(
                f"{gone[0]}, which taught {self._run.folder}, is gone; put it back to train on from the run"
            )
        teachers = [read_run(folder) for folder in self._run.teachers] or [self._run]
        return Teacher(teachers, self._run.config, self._train).teach
