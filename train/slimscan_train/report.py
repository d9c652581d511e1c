"""The training report: one self-contained HTML page a run."""

from html import escape
from pathlib import Path

from slimscan_train.evaluation import evaluate
from slimscan_train.run import Run


def write_report(run: Run) -> Path:
    """Write a run's `report.html` and return its path."""
    lines = "".join(f"<li>{escape(found.text)}</li>" for found in evaluate(run))
    path = run.folder / "report.html"
    path.write_text(
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>slimscan training report</title>"
        f"<p>Not a medical device.</p><ul>{lines}</ul></html>\n"
    )
    return path
