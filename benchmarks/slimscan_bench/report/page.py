"""The page, from a record's file: tables and figures in one HTML file that loads nothing."""

import json
from collections.abc import Sequence
from pathlib import Path

from slimscan_bench.benchmark import SCHEMA_VERSION, Benchmark
from slimscan_bench.paper_limit import BOARDS
from slimscan_bench.peers.comparison import KIND, PeerComparison
from slimscan_bench.peers.roster import FLOOR
from slimscan_bench.reading import read_record
from slimscan_bench.report.ladder import Rung
from slimscan_bench.report.plots import report_plots
from slimscan_bench.report.view import View, view_of_benchmark, view_of_peers
from slimscan_edge.atomic import write_atomically
from slimscan_edge.errors import InputError
from slimscan_train.report import render

TEMPLATES = Path(__file__).parent / "templates"
_COMPUTED = ("schema_version", "summary")
"""What a benchmark's table holds beside its fields."""


def read_any_record(path: Path) -> PeerComparison | Benchmark:
    """Read what `slimscan peers` or `slimscan bench --out` wrote.

    Raises:
        InputError: It is neither, or of another version of slimscan.
    """
    try:
        table = json.loads(path.read_bytes())
    except OSError as exc:
        raise InputError(f"{path} cannot be read ({exc.strerror or exc})") from exc
    except ValueError as exc:
        raise InputError(f"{path} is no JSON file; give one that slimscan peers or slimscan bench --out wrote") from exc
    if isinstance(table, dict) and table.get("kind") == KIND:
        return PeerComparison.from_table(table, where=path.name)
    if not isinstance(table, dict) or "samples" not in table:
        raise InputError(f"{path} is no record of slimscan peers or slimscan bench --out")
    if table.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{path} is a benchmark of schema version {table.get('schema_version')}, expected {SCHEMA_VERSION}; "
            "install the same version of slimscan here and there"
        )
    fields = {key: value for key, value in table.items() if key not in _COMPUTED}
    return read_record(Benchmark, fields, where=path.name)


def write_report(record: PeerComparison | Benchmark, path: Path, *, ladder: Sequence[Rung] = ()) -> None:
    """Write the page of a record.

    Args:
        record: As it was measured or read.
        path: Of the page.
        ladder: Rows of a compression ladder, for size against accuracy.

    Raises:
        InputError: An image of the record was not measured in every round, or the file cannot be written.
    """
    view = view_of_peers(record) if isinstance(record, PeerComparison) else view_of_benchmark(record)
    write_atomically(path, page(view, ladder).encode(errors="backslashreplace"))


def page(view: View, ladder: Sequence[Rung] = ()) -> str:
    """The HTML of a view."""
    return render(
        TEMPLATES / "bench.html",
        view=view,
        plots=report_plots(view, ladder),
        ladder=ladder,
        boards=BOARDS,
        floor=FLOOR,
    )
