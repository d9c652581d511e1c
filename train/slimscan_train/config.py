"""All that a training run can be asked, as one frozen record, from a TOML recipe and flags."""

import tomllib
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from slimscan_edge.atomic import write_atomically
from slimscan_edge.errors import InputError
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_edge.records import from_mapping
from slimscan_train.augment import AugmentConfig
from slimscan_train.model import ModelConfig
from slimscan_train.split import SplitConfig

DEFAULT_RECIPE = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How the weights are fitted.

    Attributes:
        seed: Of the initial weights, the order of images and the augmentation.
        epochs: Passes over the training images, at most.
        batch: Images in one step.
        learning_rate: Peak of the cosine schedule (Loshchilov & Hutter 2017, arXiv:1608.03983).
        warmup_epochs: Epochs of linear warm-up before it.
        weight_decay: Decoupled decay (AdamW, arXiv:1711.05101).
        label_smoothing: Share of each label given to the other class.
        weight_average: Decay per step of the exponential moving average of the weights that is kept; 0 keeps
            the last weights themselves.
        balance: `batches` draws both classes equally often; `style` too, and within a class those images the more
            whose style is the other's (`slimscan_train.style`); `weights` weighs the loss, `none` does neither.
        subtype_weight: Weight of the second output's loss.
        patience: Epochs without a better validation AUROC before stopping early.
        drop_duplicates: Train on one copy of images that are exact duplicates.
        teacher_share: Share of a teacher's answer in each target, when there is a teacher; the rest is the label.
        evidence_weight: Weight of the difference from a teacher's evidence map, in units of the map's own variance.
    """

    seed: int = 0
    epochs: int = 30
    batch: int = 32
    learning_rate: float = 3e-3
    warmup_epochs: float = 1.0
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    weight_average: float = 0.998
    balance: str = "batches"
    subtype_weight: float = 0.3
    patience: int = 20
    drop_duplicates: bool = True
    teacher_share: float = 1.0
    evidence_weight: float = 0.5

    def __post_init__(self) -> None:
        if self.balance not in ("batches", "style", "weights", "none"):
            raise ValueError(f"balance is {self.balance!r}, expected batches, style, weights or none")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")
        if self.epochs < 1 or self.batch < 2 or self.patience < 1:
            raise ValueError("epochs and patience must be at least 1, batch at least 2")
        if not 0 < self.learning_rate < 1 or not 0 <= self.weight_decay < 1:
            raise ValueError("learning_rate must lie in 0 to 1, weight_decay be 0 or more and below 1")
        if not 0 <= self.label_smoothing < 0.5 or not 0 <= self.weight_average < 1:
            raise ValueError("label_smoothing must lie in 0 to 0.5, weight_average in 0 to 1")
        if not 0 < self.teacher_share <= 1 or self.evidence_weight < 0:
            raise ValueError("teacher_share must be above 0 and at most 1, evidence_weight 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperateConfig:
    """How the operating point is chosen.

    Attributes:
        target_sensitivity: To be kept on `val`, on `val_shift` and on `val` under each named image shift.
        least_specificity: To be kept on `val`, even where the sensitivity is then missed elsewhere.
    """

    target_sensitivity: float = 0.98
    least_specificity: float = 0.9

    def __post_init__(self) -> None:
        if not 0.5 <= self.target_sensitivity <= 1:
            raise ValueError(f"target_sensitivity is {self.target_sensitivity}, expected 0.5 to 1")
        if not 0 <= self.least_specificity <= 1:
            raise ValueError(f"least_specificity is {self.least_specificity}, expected 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run, whole."""

    preprocess: PreprocessSpec = field(default_factory=PreprocessSpec)
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    operate: OperateConfig = field(default_factory=OperateConfig)


_TABLES: dict[str, type[Any]] = {
    "preprocess": PreprocessSpec,
    "split": SplitConfig,
    "model": ModelConfig,
    "augment": AugmentConfig,
    "fit": FitConfig,
    "operate": OperateConfig,
}


def recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(resources.files("slimscan_train"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(recipe: str, changes: tuple[str, ...] = ()) -> TrainConfig:
    """Read a recipe and apply changes to it.

    Args:
        recipe: Name of a recipe that comes with the package, or the path of a TOML file.
        changes: Each `table.key=value`, the value as TOML writes it ("fit.epochs=10").

    Raises:
        InputError: The recipe is absent or not TOML, or a table, key or value is not known.
    """
    path = recipes().get(recipe, Path(recipe))
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InputError(f"no recipe {recipe!r}; known are {', '.join(recipes())}, or give a TOML file") from exc
    except ValueError as exc:  # neither TOML nor even text
        raise InputError(f"{path} is not TOML: {exc}") from exc
    for change in changes:
        table, key, value = _change(change)
        tables.setdefault(table, {})[key] = value
    return config_from(tables, where=str(path))


def config_from(tables: dict[str, Any], *, where: str) -> TrainConfig:
    """Build a configuration from TOML tables.

    Raises:
        InputError: A table, key or value is not known.
    """
    if unknown := set(tables) - set(_TABLES):
        raise InputError(f"{where}: unknown table {sorted(unknown)[0]!r}; known are {', '.join(_TABLES)}")
    if loose := [name for name, table in tables.items() if not isinstance(table, dict)]:
        raise InputError(f"{where}: {loose[0]!r} is a value, expected a table [{loose[0]}]")
    read = {
        name: from_mapping(record, tables.get(name, {}), where=f"{where}, table [{name}]")
        for name, record in _TABLES.items()
    }
    return TrainConfig(**read)


def write_config(path: Path, config: TrainConfig) -> None:
    """Write a configuration as TOML, every value said."""
    import tomli_w

    tables = asdict(config)
    write_atomically(path, tomli_w.dumps(tables).encode())


def _change(change: str) -> tuple[str, str, Any]:
    name, _, text = change.partition("=")
    table, _, key = name.strip().partition(".")
    if not key or not text:
        raise InputError(f"--set {change!r}: expected table.key=value, such as fit.epochs=10")
    try:
        return table, key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return table, key, text
