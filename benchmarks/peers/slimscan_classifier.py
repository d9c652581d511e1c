"""Ours, as the command line starts it: the whole classifier with every check, guard and evidence map.

It runs in the environment of the plain LiteRT script, so that the two differ in code alone.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "edge_runtime"))

from slimscan_edge.cli import BLAS_THREADS

os.environ.setdefault(BLAS_THREADS, "1")  # before NumPy is loaded, as `slimscan predict` does

from protocol import Step, read_job, serve

from slimscan_edge.classifier import Classifier

job = read_job()
classifier = Classifier.load(job["model"], threads=job["threads"], allow_failed=True)


def answer(path: str, step: Step) -> float:
    """From file to logit."""
    finding = classifier.predict(Path(path))
    for stage, taken_ms in (
        ("decode", finding.timings.decode_ms),
        ("prepare", finding.timings.resize_ms),
        ("invoke", finding.timings.invoke_ms),
    ):
        step(stage, round(taken_ms * 1e6))
    return finding.logit


serve(answer, "ai-edge-litert", "numpy", "pillow")
