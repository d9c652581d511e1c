"""What every peer speaks: one JSON object a line, questions on standard input, answers on standard output.

`{"image": PATH}` is answered by `{"value": NUMBER, "wall_ns": N, "cpu_ns": N, "stages_ns": {"decode": N, ...}}`, or by
`{"error": "one line"}`. Before the first answer comes `{"versions": {...}}`. Standard library only: it runs in every
peer's environment.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from time import perf_counter_ns, process_time_ns
from typing import Any, Protocol


class Step(Protocol):
    """Notes that a stage has ended."""

    def __call__(self, stage: str, ns: int | None = None) -> None:
        """Note a stage by its name, and its nanoseconds where they are known better than by the time since the last."""


def read_job() -> dict[str, Any]:
    """What this peer was told at its start: the model's file, the threads, and how images are prepared."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    return job


def serve(answer: Callable[[str, Step], float], *packages: str) -> None:
    """Answer until standard input ends.

    Args:
        answer: From an image's path to the model's value; it calls the step as each stage ends.
        packages: Whose versions are told.
    """
    # Libraries that log to standard output would break the lines; what they say goes to standard error.
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps({"versions": {package: version(package) for package in packages}}), file=lines)
    for question in sys.stdin:
        print(json.dumps(_reply(answer, json.loads(question)["image"])), file=lines)


def _reply(answer: Callable[[str, Step], float], path: str) -> dict[str, Any]:
    stages: dict[str, int] = {}
    cpu, began = process_time_ns(), perf_counter_ns()
    last = began

    def step(stage: str, ns: int | None = None) -> None:
        nonlocal last
        now = perf_counter_ns()
        stages[stage] = stages.get(stage, 0) + (now - last if ns is None else ns)
        last = now

    try:
        value = float(answer(path, step))
    except Exception as exc:  # whatever a library raises is this peer's answer, and no other peer's concern
        return {"error": f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}"}
    ended = perf_counter_ns()
    return {"value": value, "wall_ns": ended - began, "cpu_ns": process_time_ns() - cpu, "stages_ns": stages}
