"""The rows of a compression ladder, as far as size against accuracy goes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimscan_edge.errors import InputError

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One row of a ladder.

    Attributes:
        name: Of its recipe.
        size_bytes: Of its model.
        auroc: By split of the validation images.
        verdict: Of its gates, in words; empty where it has none.
    """

    name: str
    size_bytes: int
    auroc: dict[str, float]
    verdict: str


def read_ladder(path: Path) -> tuple[Rung, ...]:
    """Read the `ladder.json` that `slimscan export --ladder` writes beside its report.

    Raises:
        InputError: It is no such file, or of another version of slimscan.
    """
    try:
        table = json.loads(path.read_bytes())
        if table["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{path} is a ladder of schema version {table['schema_version']!r}, expected {SCHEMA_VERSION}; "
                "export it with this version of slimscan"
            )
        return tuple(_rung(row) for row in table["rows"])
    except OSError as exc:
        raise InputError(f"{path} cannot be read ({exc.strerror}); give the ladder.json of an export") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise InputError(f"{path} is no ladder.json of slimscan export --ladder") from exc


def _rung(row: dict[str, Any]) -> Rung:
    return Rung(
        name=row["name"],
        size_bytes=int(row["size_bytes"]),
        auroc={one["split"]: float(one["auroc"]) for one in row["answers"] if one["auroc"] is not None},
        verdict=str(row.get("verdict") or ""),
    )
