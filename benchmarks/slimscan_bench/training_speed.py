"""How fast training is, what its input pipeline costs, and how it compares with plain Keras.

Epochs of the bare step, of the pipeline alone, of both together and of plain Keras are timed in turn, round after
round, each way in a process of its own: neither uses the memory, the threads or the random state of the other, and
while one is timed the other waits.
"""

import dataclasses
import shlex
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from slimscan_bench.benchmark import machine_text, memory_text
from slimscan_bench.bootstrap import interval_text
from slimscan_bench.child import peak_memory_mib
from slimscan_bench.environment import Environment, concerns_between, read_environment
from slimscan_bench.latency import BOOTSTRAP_SEED, Distribution, over_runs
from slimscan_bench.training_ways import KerasTraining, SlimscanTraining
from slimscan_bench.validity import reasons_invalid
from slimscan_edge.errors import InputError, MachineError
from slimscan_edge.interpreter import describe_package
from slimscan_train.config import DEFAULT_RECIPE, TrainConfig, read_recipe
from slimscan_train.quiet import load_tensorflow, require_avx

SCHEMA_VERSION = 1
SLOWDOWN_AT_MOST = 0.10
"""Target: by how much the pipeline may lengthen an epoch of bare steps."""
RATIO_AT_LEAST = 2.0
"""Target: how many times faster than plain Keras training is to be."""
_EPOCHS = {
    "step": "step alone",
    "pipeline": "pipeline alone",
    "training": "training: both",
    "keras": "plain Keras",
}
_Way = TypeVar("_Way")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Seconds of one epoch of each, right after each other.

    Attributes:
        step_s: Steps on one batch that is ready.
        pipeline_s: Preparing the batches, with no step.
        training_s: Both together, as `slimscan_train.fit.fit` runs them.
        keras_s: Plain Keras.
    """

    step_s: float
    pipeline_s: float
    training_s: float
    keras_s: float

    @property
    def slowdown(self) -> float:
        """Share by which the pipeline lengthens an epoch of steps."""
        return self.training_s / self.step_s - 1.0

    @property
    def ratio(self) -> float:
        """How many times as long as ours plain Keras took."""
        return self.keras_s / self.training_s


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpeed:
    """What was measured, where and how.

    Attributes:
        command: The command line, defaults spelt out.
        started: When, UTC, ISO 8601.
        config: The recipe with its changes.
        steps: Steps in each epoch.
        warmup: Rounds that were not kept.
        rounds: In the order they were taken.
        peak_memory_mib: Largest resident set of the process that trained our way; None where `/proc` does not tell.
        keras_peak_memory_mib: The same of plain Keras.
        environment: The machine before.
        environment_after: The machine afterwards.
    """

    command: str
    started: str
    config: TrainConfig
    steps: int
    warmup: int
    rounds: tuple[Round, ...]
    peak_memory_mib: float | None
    keras_peak_memory_mib: float | None
    environment: Environment
    environment_after: Environment

    @property
    def images(self) -> int:
        """Images in each epoch."""
        return self.steps * self.config.fit.batch

    def images_per_second(self, name: str) -> Distribution:
        """Of `step`, `pipeline`, `training` or `keras`, round by round."""
        return over_runs([self.images / getattr(taken, f"{name}_s") for taken in self.rounds])

    @property
    def slowdown(self) -> Distribution:
        """`Round.slowdown`, round by round."""
        return over_runs([taken.slowdown for taken in self.rounds])

    @property
    def ratio(self) -> Distribution:
        """`Round.ratio`, round by round."""
        return over_runs([taken.ratio for taken in self.rounds])

    @property
    def concerns(self) -> tuple[str, ...]:
        """Reasons to doubt the figures."""
        return concerns_between(self.environment, self.environment_after)

    @property
    def invalid(self) -> tuple[str, ...]:
        """Reasons why the figures are worth nothing; none for a valid run."""
        epochs = [taken.training_s for taken in self.rounds]
        return reasons_invalid(self.environment, self.environment_after, epochs)

    def to_table(self) -> dict[str, Any]:
        """Plain values for JSON: `schema_version`, every field, and under `summary` what is computed from them."""
        return {"schema_version": SCHEMA_VERSION, "summary": self._summary(), **dataclasses.asdict(self)}

    def to_lines(self) -> list[str]:
        """The report for people, line by line."""
        where, spec, ratio = self.environment, self.config.preprocess, self.ratio
        percent = over_runs([100.0 * taken.slowdown for taken in self.rounds])
        return [
            f"machine  {machine_text(where)}",
            f"software {where.interpreter}, Python {where.python}, NumPy {where.numpy}, Pillow {where.pillow}",
            f"epoch    {self.steps} batches of {self.config.fit.batch} drawn chests, "
            f"{spec.width}x{spec.height}x{spec.channels}; network of width {self.config.model.width:g}",
            "",
            f"{'images a second':16}{'p50':>9}  {'95 % interval':^19}   ({len(self.rounds)} epochs of each, in turn)",
            *(_speed_line(words, self.images_per_second(name)) for name, words in _EPOCHS.items()),
            "",
            f"the pipeline lengthens an epoch by {percent.p50:.1f} % ({interval_text(percent.p50_interval, 1)}; "
            f"target: at most {100 * SLOWDOWN_AT_MOST:g} %)",
            f"plain Keras takes {ratio.p50:.2f} times as long ({interval_text(ratio.p50_interval, 2)}; "
            f"target: at least {RATIO_AT_LEAST:g})",
            f"peak memory {memory_text(self.peak_memory_mib)}, plain Keras {memory_text(self.keras_peak_memory_mib)}",
            *(f"caution: {concern}" for concern in self.concerns),
            *(f"INVALID: {reason}" for reason in self.invalid),
        ]

    def _summary(self) -> dict[str, Any]:
        return {
            "bootstrap_seed": BOOTSTRAP_SEED,
            "valid": not self.invalid,
            "invalid": self.invalid,
            "concerns": self.concerns,
            "images_per_second": {name: _median(self.images_per_second(name)) for name in _EPOCHS},
            "slowdown": {**_median(self.slowdown), "target_at_most": SLOWDOWN_AT_MOST},
            "ratio": {**_median(self.ratio), "target_at_least": RATIO_AT_LEAST},
        }


def measure_training_speed(
    *,
    recipe: str | None,
    changes: Sequence[str],
    steps: int,
    warmup: int,
    repeats: int,
    progress: Callable[[int], None] = lambda _: None,
) -> TrainingSpeed:
    """Time epochs of each way in turn and keep what each took.

    Args:
        recipe: As `slimscan train` takes it; None for the default one.
        changes: Its changes, each `table.key=value`.
        steps: Steps in each epoch.
        warmup: Rounds before anything is kept; the first one compiles the graphs.
        repeats: Rounds that are kept.
        progress: Called with the number of rounds done, warm-up included.

    Raises:
        ModuleNotFoundError: TensorFlow or its Keras is not installed.
        InputError: The recipe cannot be used.
        MachineError: The processor has no AVX, or a process that trains ended.
    """
    require_avx()
    for package in ("tensorflow", "tf_keras"):  # before the processes that train are started, which would fail
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    packages = ", ".join(describe_package(package) for package in ("tensorflow", "tf_keras"))
    recipe = recipe or DEFAULT_RECIPE
    config = read_recipe(recipe, tuple(changes))
    if config.fit.batch % 2:
        raise InputError(f"fit.batch is {config.fit.batch}; give an even one, so that both ways see as many images")
    started, before = datetime.now(UTC).isoformat(timespec="seconds"), read_environment(interpreter=packages)
    rounds = []
    with (
        tempfile.TemporaryDirectory(prefix="slimscan-bench-") as folder,
        _Process(SlimscanTraining, config, steps) as ours,
        _Process(KerasTraining, config, steps, Path(folder)) as keras,
    ):
        for count in range(warmup + repeats):
            rounds.append(_take_round(ours, keras, backwards=bool(count % 2)))
            progress(count + 1)
        peaks = ours.peak_memory_mib, keras.peak_memory_mib
    return TrainingSpeed(
        command=_command(recipe, changes, steps=steps, repeats=repeats, warmup=warmup),
        started=started,
        config=config,
        steps=steps,
        warmup=warmup,
        rounds=tuple(rounds[warmup:]),
        peak_memory_mib=peaks[0],
        keras_peak_memory_mib=peaks[1],
        environment=before,
        environment_after=read_environment(interpreter=packages),
    )


class _Process(Generic[_Way]):
    """A way of training that lives in a process of its own, waiting to be asked."""

    def __init__(self, build: Callable[..., _Way], *arguments: object) -> None:
        spawn = get_context("spawn")
        self._pipe, self._theirs = spawn.Pipe()
        self._process = spawn.Process(target=_answer, args=(self._theirs, build, *arguments), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()  # or the end of the process would not show
        self._receive()  # built
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def ask(self, question: Callable[[_Way], float]) -> float:
        """The answer of the way of training to one of its methods."""
        try:
            self._pipe.send(question)
        except OSError as exc:
            raise self._ended() from exc
        return float(self._receive())

    @property
    def peak_memory_mib(self) -> float | None:
        return peak_memory_mib(self._process.pid or 0)

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, OSError) as exc:
            raise self._ended() from exc

    def _ended(self) -> MachineError:
        self._process.join()
        return MachineError(
            f"the process that trains ended with exit code {self._process.exitcode}; "
            "see what it said, or free memory (-9: the system stopped it)"
        )


def _answer(pipe: "Connection[Any, Any]", build: Callable[..., _Way], *arguments: object) -> None:
    """Build a way of training and apply to it whatever function is sent, for as long as somebody sends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks is interrupted too, and ends this one
    load_tensorflow()
    way = build(*arguments)
    pipe.send(None)
    with suppress(EOFError):
        while True:
            pipe.send(pipe.recv()(way))


def _take_round(ours: _Process[SlimscanTraining], keras: _Process[KerasTraining], *, backwards: bool) -> Round:
    """Every other round is taken backwards, so that a drift of the machine falls on all alike."""
    epochs = {
        "step_s": lambda: ours.ask(SlimscanTraining.step_s),
        "pipeline_s": lambda: ours.ask(SlimscanTraining.pipeline_s),
        "training_s": lambda: ours.ask(SlimscanTraining.training_s),
        "keras_s": lambda: keras.ask(KerasTraining.training_s),
    }
    order = reversed(list(epochs)) if backwards else list(epochs)
    return Round(**{name: epochs[name]() for name in order})


def _command(recipe: str, changes: Sequence[str], **counts: int) -> str:
    words = ["slimscan", "bench", "--training", "--recipe", recipe]
    words += [word for change in changes for word in ("--set", change)]
    words += [word for name, count in counts.items() for word in (f"--{name}", str(count))]
    return shlex.join(words)


def _median(values: Distribution) -> dict[str, Any]:
    return {"p50": values.p50, "p50_interval_95": values.p50_interval, "count": len(values.values)}


def _speed_line(words: str, values: Distribution) -> str:
    return f"{words:16}{values.p50:9.1f}  {interval_text(values.p50_interval, 1):^19}".rstrip()
