"""What a compressed model must keep to: a TOML file, every value said, the one in use on record in every report."""

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from slimscan_edge.errors import InputError
from slimscan_edge.records import from_mapping

STRICT = "strict"
"""The policy that is used unless another is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What may be seen of a harm, and what must be proven of it; both are shares.

    Attributes:
        observed: Above it the gate fails, 0 to `margin`.
        margin: What the one-sided bound must keep to for a pass, above 0 and below 0.5.
    """

    observed: float
    margin: float

    def __post_init__(self) -> None:
        for name in ("observed", "margin"):
            _require_number(name, getattr(self, name))
        if not 0 < self.margin < 0.5:
            raise ValueError(f"margin is {self.margin}, expected above 0 and below 0.5")
        if not 0 <= self.observed <= self.margin:
            raise ValueError(f"observed is {self.observed}, expected 0 to the margin of {self.margin}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeLimits:
    """On all held-out images.

    Attributes:
        new_misses: Positives that the float model finds and the candidate misses, of all positives.
        new_false_alarms: Negatives that the float model clears and the candidate does not, of all negatives.
        sensitivity: Loss of it, each model at its own threshold.
        specificity: Loss of it.
        auroc: Loss of it.
    """

    new_misses: Limit
    new_false_alarms: Limit
    sensitivity: Limit
    specificity: Limit
    auroc: Limit

    def __post_init__(self) -> None:
        _require_limits(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupLimits:
    """On each subgroup of either class; as in `WholeLimits`."""

    new_misses: Limit
    new_false_alarms: Limit

    def __post_init__(self) -> None:
        _require_limits(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftLimits:
    """On validation images under each named shift; as in `WholeLimits`."""

    sensitivity: Limit
    specificity: Limit

    def __post_init__(self) -> None:
        _require_limits(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRatio:
    """The candidate's misses over the float model's.

    Attributes:
        most: Times as many, 1 or more.
        least_miss_rate: What a lower miss rate of the float model counts as, above 0 and below 0.5.
    """

    most: float
    least_miss_rate: float

    def __post_init__(self) -> None:
        for name in ("most", "least_miss_rate"):
            _require_number(name, getattr(self, name))
        if self.most < 1 or not 0 < self.least_miss_rate < 0.5:
            raise ValueError(
                f"most is {self.most} and least_miss_rate {self.least_miss_rate}, expected 1 or more and 0 to 0.5"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """On the model file.

    Attributes:
        size_bytes: Of the file, at most.
        arena_bytes: That TFLite Micro takes, at most.
        reproduction_logits: Between the float model's scores and those it was validated with, at most.
        near_threshold: Share of held-out images within one step of the int8 logit from the threshold, at most.
    """

    size_bytes: int
    arena_bytes: int
    reproduction_logits: float
    near_threshold: float

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _require_number(field.name, getattr(self, field.name))
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}, expected above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """All that the gates allow.

    Attributes:
        name: What reports call it.
        confidence: Of every one-sided bound, 0.5 to 1.
        whole: On all held-out images.
        subgroups: On each subgroup.
        shifts: On validation images under each named shift.
        error_ratio: The candidate's misses over the float model's.
        model: On the model file.
    """

    name: str
    confidence: float
    whole: WholeLimits
    subgroups: SubgroupLimits
    shifts: ShiftLimits
    error_ratio: ErrorRatio
    model: ModelLimits

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ValueError(f"name is {self.name!r}, expected what reports are to call the policy")
        _require_number("confidence", self.confidence)
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}, expected above 0.5 and below 1")


_TABLES: dict[str, type[Any]] = {
    "whole": WholeLimits,
    "subgroups": SubgroupLimits,
    "shifts": ShiftLimits,
    "error_ratio": ErrorRatio,
    "model": ModelLimits,
}


def policies() -> dict[str, Path]:
    """The policies that come with the package, by name."""
    folder = Path(str(resources.files("slimscan_export"))) / "policies"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def strict_policy() -> GatePolicy:
    """The policy that is used unless another is asked for."""
    return read_policy(STRICT)


def read_policy(policy: str) -> GatePolicy:
    """Read a policy, in which no value may be left out.

    Args:
        policy: Name of one that comes with the package, or the path of a TOML file.

    Raises:
        InputError: It is absent or not TOML, or a table, key or value is absent, not known or not allowed.
    """
    path = policies().get(policy, Path(policy))
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InputError(f"no policy {policy!r}; known are {', '.join(policies())}, or give a TOML file") from exc
    except ValueError as exc:  # neither TOML nor even text
        raise InputError(f"{path} is not TOML: {exc}") from exc
    return from_mapping(GatePolicy, _required(GatePolicy, _read_tables(tables, str(path)), str(path)), where=str(path))


def _read_tables(tables: dict[str, Any], where: str) -> dict[str, Any]:
    read = dict(tables)
    for name in tables.keys() & _TABLES.keys():
        if not isinstance(tables[name], dict):
            raise InputError(f"{where}: {name!r} is a value, expected a table [{name}]")
        place = f"{where}, table [{name}]"
        for field in dataclasses.fields(_TABLES[name]):
            if field.type is Limit and not isinstance(value := tables[name].get(field.name, {}), dict):
                raise InputError(f"{place}: {field.name} is {value!r}, {_EXPECTED_LIMIT}")
        values = {
            key: from_mapping(Limit, _required(Limit, value, f"{place}, {key}"), where=f"{place}, {key}")
            if isinstance(value, dict)
            else value
            for key, value in tables[name].items()
        }
        read[name] = from_mapping(_TABLES[name], _required(_TABLES[name], values, place), where=place)
    return read


_EXPECTED_LIMIT = "expected { observed = SHARE, margin = SHARE }"


def _required(record: type[Any], values: dict[str, Any], where: str) -> dict[str, Any]:
    """The values, after a look that none is absent; unknown ones are told by who builds the record."""
    names = [field.name for field in dataclasses.fields(record)]
    if values.keys() <= set(names) and (absent := [name for name in names if name not in values]):
        raise InputError(f"{where}: {', '.join(absent)} not said; a policy says every value")
    return values


def _require_limits(record: Any) -> None:
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if not isinstance(value, Limit):
            raise ValueError(f"{field.name} is {value!r}, {_EXPECTED_LIMIT}")


def _require_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, expected a number")
