"""An export in figures: the float model against the int8 one, all that the report and the card say."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.bootstrap import Interval
from slimscan_bench.intervals import newcombe_paired
from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.bundle import Verdict
from slimscan_edge.errors import InputError
from slimscan_edge.interpreter import Interpreter, TensorSpec
from slimscan_edge.operating_point import OperatingPoint
from slimscan_export.calibration import CalibrationConfig, draw_calibration
from slimscan_export.convert import output_roles
from slimscan_export.gates import Shifted
from slimscan_export.paired_gates import Gate
from slimscan_train.intervals import Estimate, clustered_auroc, proportion
from slimscan_train.lungs.surroundings import SWAPS
from slimscan_train.reliability import ReliabilityBin, expected_calibration_error, reliability_bins
from slimscan_train.run import Run
from slimscan_train.split import Split

if TYPE_CHECKING:
    from slimscan_export.judging import Export


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The int8 model's figure less the float model's, -1 to 1, with its paired 95 % interval if there is one."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure of both models on the same images, each at its own threshold.

    Attributes:
        measure: "AUROC", "sensitivity" or "specificity".
        reference: Of the float model.
        candidate: Of the int8 model.
        change: Candidate less reference.
    """

    measure: str
    reference: Estimate
    candidate: Estimate
    change: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSummary:
    """Both models on one set of patients.

    Attributes:
        split: Which, or the named shift of `val`.
        images: How many.
        patients: How many.
        positives: Images of the positive class.
        new_misses: Positives that the float model finds and the int8 model misses.
        new_false_alarms: Negatives that the float model clears and the int8 model does not.
        comparisons: Each figure that is defined here: none of a class that is absent.
    """

    split: str
    images: int
    patients: int
    positives: int
    new_misses: int
    new_false_alarms: int
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """Both models on the images of one subgroup and one class.

    Attributes:
        split: Which patients.
        group: Name of the subgroup.
        label: Class of its images.
        images: How many.
        patients: How many.
        comparison: Sensitivity of a positive group, specificity of a negative one.
        lost: Images that the float model gets right and the int8 model wrong.
        gained: The other way about.
    """

    split: str
    group: str
    label: str
    images: int
    patients: int
    comparison: Comparison
    lost: int
    gained: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One image that the float model gets right and the int8 model wrong, with both calibrated probabilities."""

    image: str
    split: str
    label: str
    group: str
    float_probability: float
    int8_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilitySummary:
    """Both models' calibrated probabilities against what came true."""

    split: str
    float_error: float
    int8_error: float
    float_bins: tuple[ReliabilityBin, ...]
    int8_bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the int8 model's refer band leaves to it, and how it does there.

    Attributes:
        split: Which patients.
        images: How many.
        referred: Images inside the refer band.
        decided: Share of images outside it.
        sensitivity: Share of decided positives that are called positive; None without any.
        specificity: Share of decided negatives that are called negative; None without any.
    """

    split: str
    images: int
    referred: int
    decided: Estimate
    sensitivity: Estimate | None
    specificity: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitGrid:
    """The values that an int8 logit can have, and how finely they lie about the threshold.

    Attributes:
        step: From one value to the next, logits.
        lowest: Least value, logits.
        highest: Greatest value, logits.
        below: Probability of the greatest value that is called negative; None when there is none.
        above: Probability of the least value that is called positive; None when there is none.
        referred: How many of the values lie in the refer band.
    """

    step: float
    lowest: float
    highest: float
    below: float | None
    above: float | None
    referred: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSet:
    """The training images that int8 ranges were measured on.

    Attributes:
        seed: Of their draw.
        images: How many.
        patients: How many.
        labels: Images of each class.
    """

    seed: int
    images: int
    patients: int
    labels: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSummary:
    """An export in figures.

    Attributes:
        bundle_id: `NAME-VERSION`.
        run: Name of the run's folder.
        labels: The negative and the positive class.
        naming: The rule that patients were read by.
        verdict: Of all gates together.
        gates: Each gate's result.
        mcnemar: Two-sided p-values that both models err equally often, on positives and on negatives.
        float_point: Operating point of the float model.
        int8_point: Operating point of the int8 model, locked in the bundle.
        sets: Each set of held-out patients.
        groups: Their subgroups.
        new_misses: All of them, the lowest int8 probability first.
        new_false_alarms: All of them, the highest int8 probability first.
        reliability: Of each set that holds both classes.
        coverage: Of each set.
        grid: Of the int8 logit.
        size_bytes: Of the model in each precision.
        calibration: None when ranges were learnt in training instead.
        zeros: Share of zeros among the kernels, 0 to 1.
    """

    bundle_id: str
    run: str
    labels: tuple[str, str]
    naming: str
    verdict: Verdict
    gates: tuple[Gate, ...]
    mcnemar: tuple[float, float]
    float_point: OperatingPoint
    int8_point: OperatingPoint
    sets: tuple[SetSummary, ...]
    groups: tuple[GroupSummary, ...]
    new_misses: tuple[Case, ...]
    new_false_alarms: tuple[Case, ...]
    reliability: tuple[ReliabilitySummary, ...]
    coverage: tuple[Coverage, ...]
    grid: LogitGrid
    size_bytes: dict[str, int]
    calibration: CalibrationSet | None
    zeros: float


def summarise(run: Run, export: "Export") -> ExportSummary:
    """Compute all figures of an export; its int8 model is loaded for the grid of its logit, and not run."""
    config, points = export.config, (run.operating_point, export.operating_point)
    by_split = split_pair(run.split, export.candidate.pair)
    misses, alarms = _new_errors(run, export)
    return ExportSummary(
        bundle_id=f"{config.name}-{config.version}",
        run=run.folder.resolve().name,
        labels=run.split.labels,
        naming=run.split.naming,
        verdict=export.verdict,
        gates=export.gates,
        mcnemar=(export.candidate.pair.sensitivity_p_value, export.candidate.pair.specificity_p_value),
        float_point=points[0],
        int8_point=points[1],
        sets=compare_sets(run.split, export.candidate.pair),
        groups=tuple(group for name, pair in by_split.items() for group in _groups(name, pair, run.split.labels)),
        new_misses=misses,
        new_false_alarms=alarms,
        reliability=tuple(
            _reliability(name, pair, *points)
            for name, pair in by_split.items()
            if pair.reference.positives and pair.reference.negatives
        ),
        coverage=tuple(coverage(name, pair.candidate, points[1]) for name, pair in by_split.items()),
        grid=logit_grid(logit_spec(export.variants["int8"]), points[1]),
        size_bytes={precision: len(model) for precision, model in export.variants.items()},
        calibration=export.calibration,
        zeros=export.zeros,
    )


def compare_sets(split: Split, pair: PairedScores) -> tuple[SetSummary, ...]:
    """Both models on each set of held-out patients."""
    return tuple(_set(name, part) for name, part in split_pair(split, pair).items())


def compare_shifts(shifts: Iterable[Shifted]) -> tuple[SetSummary, ...]:
    """Both models under each named shift, first where the int8 model's sensitivity and specificity add up to least."""

    def rates(found: SetSummary) -> float:
        return sum(one.candidate.value for one in found.comparisons if one.measure != "AUROC")

    return tuple(sorted((_set(shift.name, shift.pair) for shift in shifts), key=rates))


def in_other_surroundings(shifts: Sequence[SetSummary]) -> dict[str, float]:
    """The int8 model's figures on `val_swap` by measure, the mean of its draws; none where nothing was swapped."""
    draws = [found.comparisons for found in shifts if found.split in SWAPS]
    return {same[0].measure: float(np.mean([one.candidate.value for one in same])) for same in zip(*draws, strict=True)}


def split_pair(split: Split, pair: PairedScores) -> dict[str, PairedScores]:
    """The pair on the images of each split, those first whose name is shorter: `val`, then `val_shift`."""
    home = {image.path: image.split for image in split.images}
    homes = np.array([home[image] for image in pair.reference.images])
    return {str(name): pair.select(homes == name) for name in sorted(set(homes), key=len)}


def coverage(name: str, scores: Scores, point: OperatingPoint) -> Coverage:
    """What an operating point decides and what it refers.

    Args:
        name: Of the set.
        scores: Of the model that the point belongs to.
        point: With the refer band.
    """
    decisions = np.array([point.decide(point.probability(logit)) for logit in scores.logits.tolist()])
    decided, called = decisions != "refer", decisions == "positive"
    positives, negatives = decided & scores.positive, decided & ~scores.positive
    share = proportion(int(decided.sum()), len(scores))
    assert share  # scores are of one image at least
    return Coverage(
        split=name,
        images=len(scores),
        referred=int((~decided).sum()),
        decided=share,
        sensitivity=proportion(int((called & positives).sum()), int(positives.sum())),
        specificity=proportion(int((~called & negatives).sum()), int(negatives.sum())),
    )


def logit_spec(model: bytes) -> TensorSpec:
    """The logit tensor of a `.tflite` model."""
    interpreter = Interpreter(model)
    return interpreter.outputs[output_roles(interpreter).index("logits")]


def logit_grid(spec: TensorSpec, point: OperatingPoint) -> LogitGrid:
    """How finely a quantised logit lies about a threshold.

    Args:
        spec: The tensor; an integer type with a scale.
        point: With the threshold, temperature and refer band.
    """
    limits = np.iinfo(spec.dtype)
    values = spec.real_values(np.arange(limits.min, limits.max + 1)).astype(float)
    probabilities = [point.probability(value) for value in values.tolist()]
    return LogitGrid(
        step=spec.scale,
        lowest=float(values[0]),
        highest=float(values[-1]),
        below=max((found for found in probabilities if found < point.threshold), default=None),
        above=min((found for found in probabilities if found >= point.threshold), default=None),
        referred=sum(point.decide(found) == "refer" for found in probabilities),
    )


def calibration_set(split: Split, config: CalibrationConfig) -> CalibrationSet:
    """Whom the int8 ranges were measured on: the same seeded draw once more."""
    images = draw_calibration(split, config)
    return CalibrationSet(
        seed=config.seed,
        images=len(images),
        patients=len({image.patient for image in images}),
        labels=dict(Counter(image.label for image in images)),
    )


def _set(name: str, pair: PairedScores) -> SetSummary:
    return SetSummary(
        split=name,
        images=len(pair),
        patients=len(set(pair.reference.patients)),
        positives=pair.reference.positives,
        new_misses=len(pair.new_misses),
        new_false_alarms=len(pair.new_false_alarms),
        comparisons=tuple(_comparisons(pair)),
    )


def _comparisons(pair: PairedScores) -> Iterator[Comparison]:
    """Each figure that the images give."""
    reference, candidate = pair.reference, pair.candidate
    areas = [clustered_auroc(scores.positive, scores.logits, scores.patients) for scores in (reference, candidate)]
    if areas[0] and areas[1]:
        yield Comparison(
            measure="AUROC",
            reference=areas[0],
            candidate=areas[1],
            change=Change(value=pair.auroc_difference, interval=_or_none(pair.auroc_difference_interval)),
        )
    if pair.reference.positives:
        yield _rate(pair, of_positives=True)
    if pair.reference.negatives:
        yield _rate(pair, of_positives=False)


def _rate(pair: PairedScores, *, of_positives: bool) -> Comparison:
    """Sensitivity or specificity of both models; there must be an image to count."""
    table = pair.positives_table if of_positives else pair.negatives_table
    reference, candidate = (
        proportion(table.both + alone, sum(table)) for alone in (table.reference_only, table.candidate_only)
    )
    assert reference
    assert candidate
    return Comparison(
        measure="sensitivity" if of_positives else "specificity",
        reference=reference,
        candidate=candidate,
        change=Change(value=table.difference, interval=newcombe_paired(table)),
    )


def _groups(name: str, pair: PairedScores, labels: tuple[str, str]) -> Iterable[GroupSummary]:
    for group, members in pair.by_group().items():
        for is_positive in (False, True):
            of_class = members.reference.positive == is_positive
            if not of_class.any():
                continue
            part = members.select(of_class)
            table = part.positives_table if is_positive else part.negatives_table
            yield GroupSummary(
                split=name,
                group=group,
                label=labels[is_positive],
                images=len(part),
                patients=len(set(part.reference.patients)),
                comparison=_rate(part, of_positives=is_positive),
                lost=table.reference_only,
                gained=table.candidate_only,
            )


def _new_errors(run: Run, export: "Export") -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """New misses and new false alarms, the gravest first."""
    pair = export.candidate.pair
    images = {image.path: image for image in run.split.images}
    logits = {
        name: (float(reference), float(candidate))
        for name, reference, candidate in zip(
            pair.reference.images, pair.reference.logits, pair.candidate.logits, strict=True
        )
    }

    def case(name: str) -> Case:
        of_float, of_int8 = logits[name]
        return Case(
            image=name,
            split=images[name].split,
            label=images[name].label,
            group=images[name].group,
            float_probability=run.operating_point.probability(of_float),
            int8_probability=export.operating_point.probability(of_int8),
        )

    misses, alarms = ([case(name) for name in names] for names in (pair.new_misses, pair.new_false_alarms))
    return (
        tuple(sorted(misses, key=lambda found: (found.int8_probability, found.image))),
        tuple(sorted(alarms, key=lambda found: (-found.int8_probability, found.image))),
    )


def _reliability(
    name: str, pair: PairedScores, float_point: OperatingPoint, int8_point: OperatingPoint
) -> ReliabilitySummary:
    of_float, of_int8 = (
        reliability_bins(_probabilities(scores.logits, point), scores.positive)
        for scores, point in ((pair.reference, float_point), (pair.candidate, int8_point))
    )
    return ReliabilitySummary(
        split=name,
        float_error=expected_calibration_error(of_float),
        int8_error=expected_calibration_error(of_int8),
        float_bins=of_float,
        int8_bins=of_int8,
    )


def _probabilities(logits: NDArray[np.float64], point: OperatingPoint) -> NDArray[np.float64]:
    return np.array([point.probability(logit) for logit in logits.tolist()])


def _or_none(interval: Callable[[], Interval]) -> Interval | None:
    """What is computed, or None where there are too few images to."""
    try:
        return interval()
    except InputError:
        return None
