"""Repairing an int8 model that failed its gates: what is tried, on whom each try is judged, and which one is chosen.

The tries go from what changes least to what costs most, each on top of those before it: a larger calibration set,
cross-layer equalisation, quantisation-aware training with the float model as teacher, and the noisiest layers back in
float. They are judged by the export's own gates, but on a repair split cut from the training patients
(docs/decisions/0009-repair-split.md): the patients that accept a bundle are not in the split that this module is given
to work with, and see only the one model that is chosen.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.bundle import Verdict
from slimscan_edge.errors import InputError, SlimscanError
from slimscan_edge.interpreter import Interpreter
from slimscan_export.calibration import CalibrationConfig
from slimscan_export.calibration_audit import calibration_pixels
from slimscan_export.convert import convert, saved_model
from slimscan_export.diagnosis import LayerNoise, convert_partly, diagnose
from slimscan_export.equalisation import Equalised, equalise
from slimscan_export.fine_tuning import quantisation_aware, zero_share
from slimscan_export.judging import Export, Rows, judge
from slimscan_export.micro import arena_bytes_or_none
from slimscan_export.paired_gates import Gate
from slimscan_export.summary import CalibrationSet, calibration_set
from slimscan_train.distillation import Teacher
from slimscan_train.fit import predict_logits
from slimscan_train.model import PIXEL_CENTRE, PIXEL_SCALE
from slimscan_train.run import Run
from slimscan_train.split import Split
from slimscan_train.training import VALIDATION, operating_point, score_rows, training_set

MOST_IMAGES = 400
"""Of each class in the repair split: a strict gate on new misses takes 149 patients without one, and 236 with one."""

MOST_SHARE = 0.5
"""Of each class's training patients in the repair split; the rest calibrate and train."""

TIMES_AS_MANY = 4
"""So many times as many calibration images are tried first."""

FLOAT_LAYERS = (1, 3)
"""How many of the noisiest layers are tried in float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try, as it was judged on the repair split.

    Attributes:
        name: What was tried, in a few words.
        words: What exactly was done.
        verdict: Of all gates together; None when it could not be judged.
        gates: Each gate's result.
        new_misses: Positives that the float model finds and this one misses.
        new_false_alarms: Negatives that the float model clears and this one does not.
        worst_layer: The noisiest layer; None when its ranges were learnt in training.
        in_float: Keras layers that are not int8.
        size_bytes: Of the file.
        not_deployable: What keeps a device from running it, or what kept it from being made; "" when nothing.
        seconds: That making and judging it took.
    """

    name: str
    words: str
    verdict: Verdict | None = None
    gates: tuple[Gate, ...] = ()
    new_misses: int = 0
    new_false_alarms: int = 0
    worst_layer: LayerNoise | None = None
    in_float: tuple[str, ...] = ()
    size_bytes: int = 0
    not_deployable: str = ""
    seconds: float

    def by_verdict(self, verdict: Verdict) -> tuple[str, ...]:
        """Names of the gates that said so."""
        return tuple(gate.name for gate in self.gates if gate.verdict == verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was tried to repair an int8 model, and on whom.

    Attributes:
        images: Paths of the repair split's images.
        patients: How many they are of.
        positives: Images of the positive class among them.
        failed_gates: The gates of the accepting patients that the model as exported did not pass.
        as_exported: That model on the repair split.
        attempts: What was tried, in order.
        chosen: Name of the attempt that went on to the accepting gates; None when none did.
    """

    images: tuple[str, ...]
    patients: int
    positives: int
    failed_gates: tuple[Gate, ...]
    as_exported: Attempt
    attempts: tuple[Attempt, ...]
    chosen: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Repaired:
    """A model that was made in a try.

    Attributes:
        words: What was done.
        model: The bytes of a `.tflite` file.
        zeros: Share of zeros among the kernels, 0 to 1.
        calibration: Whom its ranges were measured on; None when they were learnt in training.
        worst_layer: The noisiest layer that is int8; None when it was not measured.
        in_float: Keras layers that are not int8.
    """

    words: str
    model: bytes
    zeros: float
    calibration: CalibrationSet | None
    worst_layer: LayerNoise | None = None
    in_float: tuple[str, ...] = ()


def repair(
    run: Run, failed: Export, float_model: Any, network: Any, note: Callable[[str], None]
) -> tuple[Repair, Repaired | None]:
    """Try to repair an int8 model until a try passes on the repair split.

    Args:
        run: The run.
        failed: The export whose gates failed.
        float_model: The run's Keras model, which tries are held against.
        network: What was converted: the float model, or that pruned.
        note: Told one line of plain text as work goes on.

    Returns:
        What was tried, and the model that goes on to the accepting gates, if any: of the first try that fails no gate,
        after which nothing more is tried, else of the nearest (`choose`).

    Raises:
        InputError: The training patients are too few to be split, or an image cannot be read any more.
    """
    workshop = _Workshop(run, failed, float_model, network, note)
    as_exported = workshop.judged("as exported", workshop.as_exported)[0]
    attempts, made = [], {}
    for name, make in workshop.tries:
        attempt, made[name] = workshop.judged(name, make)
        attempts.append(attempt)
        note(f"{name}: {attempt.verdict or attempt.not_deployable}")
        if attempt.verdict in ("PASS", "INCONCLUSIVE"):  # where images are too few to tell, no other try has more
            break
    chosen = choose(as_exported, attempts)
    images = workshop.run.split.select(*VALIDATION)
    return Repair(
        images=tuple(image.path for image in images),
        patients=len({image.patient for image in images}),
        positives=sum(map(run.split.is_positive, images)),
        failed_gates=tuple(gate for gate in failed.gates if gate.verdict != "PASS"),
        as_exported=as_exported,
        attempts=tuple(attempts),
        chosen=chosen,
    ), made[chosen] if chosen else None


def choose(as_exported: Attempt, attempts: Sequence[Attempt]) -> str | None:
    """Which attempt goes on to the accepting gates: the one that fails the fewest gates on the repair split.

    Of equals the one with the fewest inconclusive gates, then the first. None when none of them is nearer to passing
    than the model as exported.
    """

    def distance(attempt: Attempt) -> tuple[int, int]:
        return len(attempt.by_verdict("FAIL")), len(attempt.by_verdict("INCONCLUSIVE"))

    judged = [attempt for attempt in attempts if attempt.verdict]
    nearest = min(judged, key=distance, default=None)
    if nearest is None or (nearest.verdict == "FAIL" and distance(nearest) >= distance(as_exported)):
        return None
    return nearest.name


def repair_split(split: Split, seed: int) -> Split:
    """Split training patients once more: `val` judges repairs, `train` calibrates and trains them.

    Nobody who accepts is in it, and no image of which one of them, or the other part, has an exact copy.

    Args:
        split: Of the run.
        seed: Of the draw of patients, by class.

    Raises:
        InputError: There are fewer than four training patients of a class.
    """
    rng = np.random.default_rng(seed)
    accepting = {image.sha256 for image in split.images if image.split != "train"}
    images = [image for image in split.select("train") if image.sha256 not in accepting]
    drawn: set[str] = set()
    for label in split.labels:
        counts: dict[str, int] = {}
        for image in images:
            if image.label == label:
                counts[image.patient] = counts.get(image.patient, 0) + 1
        patients, held = sorted(counts), 0
        if len(patients) < 4:
            raise InputError(
                f"got {len(patients)} training patients of class {label} to repair with, expected 4 or more"
            )
        for index in rng.permutation(len(patients))[: int(MOST_SHARE * len(patients))]:
            if held >= MOST_IMAGES:
                break
            drawn.add(patients[index])
            held += counts[patients[index]]
    judging = [dataclasses.replace(image, split="val") for image in images if image.patient in drawn]
    seen = {image.sha256 for image in judging}
    left = [image for image in images if image.patient not in drawn and image.sha256 not in seen]
    return dataclasses.replace(split, images=(*left, *judging))


def not_deployable(model: bytes) -> str:
    """What keeps a device from running a model as one of ours; "" when nothing does.

    A device asks for raw uint8 pixels in; a bundle's golden integers and the logit's grid ask for int8 out. What lies
    between may be float.
    """
    found = Interpreter(model)
    if found.input.dtype != "uint8" or found.input.zero_point != round(PIXEL_CENTRE):
        return f"its input is {found.input.dtype} with zero point {found.input.zero_point}, not raw pixels"
    if not np.isclose(found.input.scale, 1 / PIXEL_SCALE, rtol=1e-5):
        return f"its input has scale {found.input.scale}, not that of raw pixels"
    strange = [spec.dtype for spec in found.outputs if spec.dtype != "int8" or not spec.scale]
    return f"its outputs are {strange[0]}, not int8" if strange else ""


class _Workshop:
    """Makes the tries of one repair, each on top of those before it, and judges them on the repair split.

    Attributes:
        run: The run with the repair split in place of its own, and an operating point chosen on that.
    """

    def __init__(self, run: Run, failed: Export, float_model: Any, network: Any, note: Callable[[str], None]) -> None:
        self._failed, self._float_model, self._network, self._note = failed, float_model, network, note
        split = repair_split(run.split, failed.config.calibration.seed)
        note(f"repair split, all of training patients: {split.describe()}")
        rows = score_rows(lambda pixels: predict_logits(float_model, pixels), run.config, split, run.data_root, note)
        self._recorded: Rows = {(row.image, row.shift): row for row in rows}
        point = operating_point(rows, run.config, run.split.labels[1])
        self.run = dataclasses.replace(run, split=split, operating_point=point)

    @property
    def tries(self) -> tuple[tuple[str, Callable[[], Repaired]], ...]:
        return (
            ("larger calibration set", self._calibrated),
            ("cross-layer equalisation", self._equalised),
            ("quantisation-aware training", self._aware),
            *((_in_float_words(count), partial(self._partly, count)) for count in FLOAT_LAYERS),
        )

    def judged(self, name: str, make: Callable[[], Repaired]) -> tuple[Attempt, Repaired | None]:
        """Make a model and hold it against the float model on the repair split; why, when that cannot be done."""
        self._note(f"repair, {name}")
        start = perf_counter()
        try:
            made = make()
            if reason := not_deployable(made.model):
                raise InputError(reason)
            export = judge(
                self.run,
                self._failed.config,
                {"int8": made.model},
                self._float_model,
                zeros=made.zeros,
                note=self._note,
                arena=arena_bytes_or_none(made.model),
                recorded=self._recorded,
            )
        except SlimscanError as exc:
            return Attempt(name=name, words="", not_deployable=str(exc), seconds=_since(start)), None
        return Attempt(
            name=name,
            words=made.words,
            verdict=export.verdict,
            gates=export.gates,
            new_misses=len(export.candidate.pair.new_misses),
            new_false_alarms=len(export.candidate.pair.new_false_alarms),
            worst_layer=made.worst_layer,
            in_float=made.in_float,
            size_bytes=len(made.model),
            seconds=_since(start),
        ), made

    def as_exported(self) -> Repaired:
        failed = self._failed
        return Repaired(
            words="the model that failed",
            model=failed.variants["int8"],
            zeros=failed.zeros,
            calibration=failed.calibration,
            worst_layer=failed.diagnosis.worst_first[0] if failed.diagnosis else None,
        )

    def _calibrated(self) -> Repaired:
        return self._after_training(self._network, f"ranges from {self._counted} instead of {self._asked.images}")

    def _equalised(self) -> Repaired:
        layer, most = self._equal.most
        if not self._equal.factors:
            raise InputError("no chain of convolutions, norms and ReLUs to equalise")
        words = f"{len(self._equal.factors)} groups of channels equalised, the most by {most:.3g} times after {layer}"
        return self._after_training(self._equal.model, f"{words}; ranges from {self._counted}")

    def _aware(self) -> Repaired:
        config, tuning = self.run.config, self._failed.config.tuning
        train = training_set(self.run.split, config, self.run.data_root, self._note)
        aware = quantisation_aware(
            self._equal.model,
            train,
            config,
            tuning,
            keep_zeros=self._failed.config.sparsity > 0,
            teach=Teacher([self.run], config, train).teach,
        )
        with saved_model(aware, quantisation_aware=True) as saved:
            model = convert(saved, "int8")
        words = (
            f"the equalised network trained for {tuning.epochs} epochs on {len(train.pixels)} images, float its teacher"
        )
        return Repaired(words=words, model=model, zeros=zero_share(aware), calibration=None)

    def _partly(self, count: int) -> Repaired:
        network, (_, pixels) = self._equal.model, self._calibration
        with saved_model(network) as saved:
            noisiest = diagnose(saved, network, pixels).worst_first
            model = convert_partly(saved, pixels, [layer.tensor for layer in noisiest[:count]])
        return Repaired(
            words=f"the equalised network; ranges from {self._counted}",
            model=model,
            zeros=zero_share(network),
            calibration=self._calibrated_on,
            worst_layer=noisiest[count],
            in_float=tuple(layer.name for layer in noisiest[:count]),
        )

    def _after_training(self, network: Any, words: str) -> Repaired:
        _, pixels = self._calibration
        with saved_model(network) as saved:
            model, diagnosis = convert(saved, "int8", pixels), diagnose(saved, network, pixels)
        return Repaired(
            words=words,
            model=model,
            zeros=zero_share(network),
            calibration=self._calibrated_on,
            worst_layer=diagnosis.worst_first[0],
        )

    @property
    def _asked(self) -> CalibrationConfig:
        return self._failed.config.calibration

    @cached_property
    def _larger(self) -> CalibrationConfig:
        return dataclasses.replace(self._asked, images=TIMES_AS_MANY * self._asked.images)

    @cached_property
    def _calibration(self) -> tuple[Any, NDArray[np.uint8]]:
        return calibration_pixels(self.run, self._larger)

    @cached_property
    def _calibrated_on(self) -> CalibrationSet:
        return calibration_set(self.run.split, self._larger)

    @property
    def _counted(self) -> str:
        return f"{self._calibrated_on.images} images of {self._calibrated_on.patients} patients"

    @cached_property
    def _equal(self) -> Equalised:
        return equalise(self._network, self._calibration[1])


def _in_float_words(count: int) -> str:
    return "the noisiest layer in float" if count == 1 else f"the {count} noisiest layers in float"


def _since(start: float) -> float:
    return round(perf_counter() - start, 1)
