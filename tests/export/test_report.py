"""The export report and the model card: their figures are those that a hand works out from a hand-made export."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slimscan_bench.scores import PairedScores, Scores
from slimscan_edge.bundle import CARD, Bundle
from slimscan_edge.classifier import NOT_A_MEDICAL_DEVICE
from slimscan_edge.interpreter import TensorSpec
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_export.bundling import make_bundle
from slimscan_export.calibration import CalibrationConfig
from slimscan_export.diagnosis import Diagnosis, LayerNoise
from slimscan_export.exporting import Export, ExportConfig
from slimscan_export.gates import Candidate, Shifted, Subgroup, evaluate_gates, in_short
from slimscan_export.micro import MicroCheck
from slimscan_export.policy import strict_policy
from slimscan_export.repair import Attempt, Repair
from slimscan_export.report import MOST_PICTURES, write_report
from slimscan_export.summary import calibration_set, compare_sets, compare_shifts, coverage, logit_grid, summarise
from slimscan_train.config import TrainConfig
from slimscan_train.dataset import LabelledImage
from slimscan_train.run import Run
from slimscan_train.split import Split

HOSTILE = "<img src=x onerror=alert(1)>&\"'.png"
LABELS = ("NORMAL", "PNEUMONIA")
CONFIG = TrainConfig(preprocess=PreprocessSpec(height=32, width=32))
FLOAT_POINT = OperatingPoint(
    threshold=0.5, target_sensitivity=0.9, refer_low=0.5, refer_high=0.5, chosen_on="val: 8 images of 8 patients"
)
INT8_POINT = OperatingPoint(
    temperature=2.0,
    threshold=0.5,
    target_sensitivity=0.9,
    refer_low=0.4,
    refer_high=0.6,
    chosen_on="val: 8 images of 8 patients, int8 model",
)

Rows = Sequence[tuple[str, str, str, float, float]]
"""Split, group, name, float logit and int8 logit; both thresholds are at a logit of 0."""

SCORED: Rows = (
    ("val", "virus", "p1.png", 3.0, 3.0),
    ("val", "virus", "p2.png", 2.0, 1.8),
    ("val", "bacteria", "p3.png", 1.0, -2.0),  # a new miss
    ("val", "bacteria", "p4.png", -1.0, -1.0),  # missed by both
    ("val", "normal", "n1.png", -3.0, -3.0),
    ("val", "normal", "n2.png", -2.0, -2.5),
    ("val", "normal", "n3.png", -0.5, 0.5),  # a new false alarm
    ("val", "normal", "n4.png", 0.5, -1.5),  # a false alarm that int8 clears
    ("val_shift", "virus", "p5.png", 2.0, 2.0),
    ("val_shift", "virus", "p6.png", 1.0, 1.0),
    ("val_shift", "normal", "n5.png", -2.0, -2.0),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandMade:
    run: Run
    export: Export
    folder: Path

    def page(self, bundle: str | None = None, **more: Any) -> str:
        """Of the export, or of one that differs in some of its fields; `micro` goes to the report itself."""
        said = {"micro": more.pop("micro")} if "micro" in more else {}
        export = dataclasses.replace(self.export, **more)
        return write_report(self.run, export, self.folder, bundle=bundle, **said).read_text()


@pytest.fixture(scope="module")
def hand_made(tmp_path_factory: pytest.TempPathFactory, golden_bundle: Bundle) -> Callable[..., HandMade]:
    """An export whose answers are written down; the golden bundle's model lends its grid and its evidence."""

    def make(rows: Rows = SCORED) -> HandMade:
        data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("export")
        for index, (_, _, name, *_) in enumerate(rows):
            Image.fromarray(np.full((32, 32), index % 256, np.uint8)).save(data / name)
        held_out = [
            dataclasses.replace(labelled(name, group, split), sha256=sha256((data / name).read_bytes()).hexdigest())
            for split, group, name, *_ in rows
        ]
        split = Split(labels=LABELS, naming="generic", images=(*training_images(), *held_out))
        run = Run(
            folder=data.parent / "some run", config=CONFIG, split=split, data_root=data, operating_point=FLOAT_POINT
        )
        variants = {"float32": b"f" * 8000, "float16": b"h" * 4000, "dynamic": b"d" * 3000, "int8": golden_bundle.model}
        return HandMade(run=run, export=export_of(run, held_out, rows, variants), folder=folder)

    return make


@pytest.fixture(scope="module")
def made(hand_made: Callable[..., HandMade]) -> HandMade:
    return hand_made()


@pytest.fixture(scope="module")
def page(made: HandMade) -> str:
    """Of an export that failed and left no bundle."""
    return made.page()


def labelled(name: str, group: str, split: str) -> LabelledImage:
    return LabelledImage(
        path=name,
        label=LABELS[group != "normal"],
        patient=name,
        group=group,
        series=group,
        number=0,
        split=split,
        sha256=name,
    )


def training_images() -> list[LabelledImage]:
    """Forty of each class, two a patient."""
    images = [labelled(f"t{i}-{group}.png", group, "train") for i in range(40) for group in ("normal", "virus")]
    return [dataclasses.replace(image, patient=f"{image.group} {index // 4}") for index, image in enumerate(images)]


def export_of(run, images, rows, variants) -> Export:
    def scores(column: int) -> Scores:
        return Scores(
            images=tuple(image.path for image in images),
            patients=tuple(image.patient for image in images),
            positive=np.array([run.split.is_positive(image) for image in images]),
            groups=tuple(image.group for image in images),
            logits=np.array([row[column] for row in rows], np.float64),
        )

    pair = PairedScores(reference=scores(3), candidate=scores(4), reference_threshold=0.0, candidate_threshold=0.0)
    candidate = Candidate(
        pair=pair,
        validated=scores(3),
        chosen_on=np.array([image.split == "val" for image in images]),
        target_sensitivity=0.75,
        reference_preprocess=CONFIG.preprocess,
        candidate_preprocess=CONFIG.preprocess,
        model_bytes=len(variants["int8"]),
        subgroups=tuple(
            Subgroup(name=group, members=np.array([image.group == group for image in images]))
            for group in sorted({image.group for image in images} - {"normal"})
        ),
        shifts=(Shifted(name="blur", pair=pair),),
    )
    calibration = CalibrationConfig(images=40, seed=7)
    return Export(
        config=ExportConfig(name="hand", version="0.1.0", calibration=calibration),
        calibration=calibration_set(run.split, calibration),
        variants=variants,
        candidate=candidate,
        gates=evaluate_gates(candidate, strict_policy()),
        operating_point=INT8_POINT,
        zeros=0.25,
    )


def agreeing(positives: int = 200, negatives: int = 200) -> Rows:
    """Both models right about everything."""
    return [
        *(("val", "virus", f"p{i}.png", 2.0 + i / 1000, 2.0 + i / 1000) for i in range(positives)),
        *(("val", "normal", f"n{i}.png", -2.0 - i / 1000, -2.0 - i / 1000) for i in range(negatives)),
    ]


class Text(HTMLParser):
    """What a page says, and what it holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def figures(made: HandMade) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Float, int8 and change by split and measure."""
    sets = compare_sets(made.run.split, made.export.candidate.pair)
    return {
        (found.split, one.measure): (one.reference.value, one.candidate.value, one.change.value)
        for found in sets
        for one in found.comparisons
    }


def test_figures_are_those_that_a_hand_counts(made):
    """On val there are 16 pairs of a positive and a negative.

    Float ranks p1, p2 and p3 above all four negatives, p4 above n1 and n2: 14. Int8 ranks p1 and p2 above all four,
    p3 (-2.0) above n1 and n2, p4 (-1.0) above these and n4: 13.
    """
    found = figures(made)
    assert found["val", "AUROC"] == pytest.approx((14 / 16, 13 / 16, -1 / 16))
    assert found["val", "sensitivity"] == pytest.approx((3 / 4, 2 / 4, -1 / 4))
    assert found["val", "specificity"] == pytest.approx((3 / 4, 3 / 4, 0.0))
    assert found["val_shift", "sensitivity"] == (1.0, 1.0, 0.0)
    assert found["val_shift", "specificity"] == (1.0, 1.0, 0.0)


def test_intervals_are_exact(made):
    """Of 2 of 2 the lower end of Clopper and Pearson is the square root of 0.025; of 2 of 4 both are in tables."""
    val, shift = compare_sets(made.run.split, made.export.candidate.pair)
    of_val, of_shift = (
        next(one.candidate for one in found.comparisons if one.measure == "sensitivity") for found in (val, shift)
    )
    assert (of_val.low, of_val.high) == pytest.approx((0.0676, 0.9324), abs=1e-4)
    assert (of_shift.low, of_shift.high) == pytest.approx((math.sqrt(0.025), 1.0))


def test_what_changed_is_listed_with_both_probabilities(made, page):
    """Each model's logit is divided by its own temperature: 1 for float, 2 for int8."""
    summary = summarise(made.run, made.export)
    (miss,), (alarm,) = summary.new_misses, summary.new_false_alarms
    assert (miss.image, miss.split, miss.group) == ("p3.png", "val", "bacteria")
    assert miss.float_probability == pytest.approx(1 / (1 + math.exp(-1)))
    assert miss.int8_probability == pytest.approx(1 / (1 + math.exp(1)))
    assert (alarm.image, alarm.int8_probability) == ("n3.png", pytest.approx(1 / (1 + math.exp(-0.25))))
    text = Text(page).text
    assert "p3.png val, bacteria 0.731 0.269" in text
    assert "n3.png val, normal 0.378 0.562" in text


def test_groups_count_what_was_lost_and_gained(made):
    groups = {(found.split, found.group): found for found in summarise(made.run, made.export).groups}
    bacteria, normal = groups["val", "bacteria"], groups["val", "normal"]
    assert (bacteria.comparison.measure, bacteria.lost, bacteria.gained) == ("sensitivity", 1, 0)
    assert (bacteria.comparison.reference.value, bacteria.comparison.candidate.value) == (0.5, 0.0)
    assert (normal.comparison.measure, normal.lost, normal.gained) == ("specificity", 1, 1)
    assert groups["val_shift", "virus"].images == 2


def test_coverage_leaves_out_what_is_referred(made):
    """The band of 0.4 to 0.6 at temperature 2 is one of -0.81 to 0.81 logits: only n3 (0.5) lies within."""
    val, shift = summarise(made.run, made.export).coverage
    assert (val.referred, val.decided.value) == (1, 7 / 8)
    assert val.sensitivity.value == 2 / 4
    assert val.specificity.value == 1.0  # n1, n2 and n4
    assert (shift.referred, shift.decided.value) == (0, 1.0)


def test_coverage_of_nothing_decided(made):
    everything = dataclasses.replace(INT8_POINT, refer_low=0.0, refer_high=1.0)
    found = coverage("val", made.export.candidate.pair.candidate, everything)
    assert (found.decided.value, found.sensitivity, found.specificity) == (0.0, None, None)


def test_the_grid_of_an_int8_logit():
    """Steps of 0.5 from -64 to 63.5; at temperature 2 the neighbours of a logit of 0 are -0.25 and 0."""
    grid = logit_grid(TensorSpec(shape=(1, 1), dtype="int8", scale=0.5, zero_point=0), INT8_POINT)
    assert (grid.step, grid.lowest, grid.highest) == (0.5, -64.0, 63.5)
    assert (grid.below, grid.above) == pytest.approx((1 / (1 + math.exp(0.25)), 0.5))
    assert grid.referred == 3  # -0.5, 0 and 0.5: within 2 x ln(0.6 / 0.4) = 0.81


def test_a_threshold_that_no_score_reaches_is_called_out():
    spec = TensorSpec(shape=(1, 1), dtype="int8", scale=0.01, zero_point=0)
    grid = logit_grid(spec, dataclasses.replace(INT8_POINT, threshold=0.9, refer_high=0.95))
    assert grid.above is None
    assert grid.below == pytest.approx(1 / (1 + math.exp(-1.27 / 2)))


def test_the_calibration_set_and_the_sizes_are_said(page):
    text = Text(page).text
    assert "40 training images of 40 patients, seed 7: 20 NORMAL, 20 PNEUMONIA" in text
    assert "float16 4,000 50.0 %" in text.replace("\xa0", " ")


def test_a_page_loads_nothing_and_says_what_it_is_not(page):
    read = Text(page)
    assert NOT_A_MEDICAL_DEVICE in read.text
    assert "PNEUMONIA (the positive class) against NORMAL" in read.text
    assert "http" not in page
    assert "script" not in read.tags
    assert read.addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in read.addresses)


def test_file_names_are_text_whatever_they_hold(hand_made):
    rows = [(*row[:2], HOSTILE if row[2] == "p3.png" else row[2], *row[3:]) for row in SCORED]
    made = hand_made(rows)
    raw = made.page()
    page = Text(raw)
    assert HOSTILE in page.text
    assert "<img src=x" not in raw
    assert "x" not in page.addresses


def test_pictures_are_few_and_names_are_all(hand_made):
    count = MOST_PICTURES + 3
    lost = [("val", "virus", f"lost{i:02d}.png", 1.0, -1.0 - i / 10) for i in range(count)]
    page = hand_made([*SCORED[4:], *lost]).page()
    assert all(f'<th scope="row">lost{i:02d}.png' in page for i in range(count))
    assert page.count('class="evidence"') == MOST_PICTURES + 1  # and that of n3
    assert 'alt="lost10.png"' in page  # the gravest
    assert 'alt="lost00.png"' not in page


def test_a_failed_export_says_so_first_and_that_no_bundle_was_written(made, page):
    text = Text(page).text
    assert made.export.verdict == "FAIL"
    assert "FAIL: the int8 model must not stand in for the float model." in text
    assert "Beyond what is allowed: new misses, new false alarms, error ratio, sensitivity loss, AUROC loss, " in text
    assert "new misses: bacteria, sensitivity loss: blur." in text
    assert "No bundle was written." in text
    assert text.index("FAIL:") < text.index("Gates") < text.index("Float against int8")


def test_a_bundle_of_a_failed_export_is_said_to_be_refused(made):
    text = Text(made.page("hand-0.1.0.slimscan")).text
    assert "hand-0.1.0.slimscan was written all the same, on request." in text
    assert "Its manifest says FAIL, and devices refuse it" in text
    assert "No bundle" not in text


def test_too_few_images_are_no_pass(hand_made):
    text = Text(hand_made(agreeing(20, 20)).page()).text
    assert "INCONCLUSIVE: it is not shown" in text
    assert "too few held-out images to tell: new misses, new false alarms" in text


def test_a_passed_export_names_its_bundle(hand_made):
    made = hand_made(agreeing())
    text = Text(made.page("hand-0.1.0.slimscan")).text
    assert made.export.verdict == "PASS"
    assert "PASS: the int8 model may stand in for the float model. Every one of 13 gates passed." in text
    assert "The bundle hand-0.1.0.slimscan holds this model, and devices take it." in text
    assert "show the evidence map" not in text  # there is nothing to draw


def test_every_gate_stands_with_what_was_measured_and_allowed(made, page):
    text = Text(page).text
    for gate in made.export.gates:
        if not gate.family:
            assert f"{gate.name} {gate.verdict} {gate.measured} {gate.allowed}" in text


def test_subgroups_and_shifts_stand_in_tables_of_their_own(made, page):
    """Of both bacteria the float model finds one and int8 none: half of them are lost."""
    text = Text(page).text
    assert "New misses, at most 1.50% seen, 3.00% proven" in text
    bound = next(gate.bound for gate in made.export.gates if gate.name == "new misses: bacteria")
    row = rf"bacteria FAIL 2 images of 2 patients 50\.0 % 0\.0 % 50\.00 % {100 * bound:.2f} %"
    assert re.search(row, text.replace("\xa0", " "))
    assert "Gates under named image shifts" in text


def test_the_policy_and_mcnemars_test_are_said(made, page):
    text = Text(page).text
    assert "By the policy strict . A gate on a rate or a loss fails" in text
    assert made.export.candidate.pair.sensitivity_p_value == 1.0  # one discordant pair
    assert "Reported, not gated: McNemar's exact test that both models err equally often, p = 1 on PNEUMONIA" in text


def test_an_inconclusive_gate_says_how_many_more_images_settle_it(hand_made):
    """Without a miss 149 images prove 2 %, and 99 the 3 % of a subgroup."""
    text = Text(hand_made(agreeing(60, 200)).page()).text
    assert "89 more images like these would settle it" in text
    assert "virus INCONCLUSIVE 60 images of 60 patients; 39 more images would settle it" in text.replace("\xa0", " ")


def noise(layer: str, decibels: float, operator: str = "CONV_2D") -> LayerNoise:
    return LayerNoise(layer=layer, operator=operator, tensor=f"net/{layer}", sqnr_db=decibels)


NOISY = Diagnosis(
    images=32,
    layers=(noise("stem", 40.0), noise("block4", 4.33), noise("", -1.5, "MEAN"), noise("sum", math.inf, "ADD")),
)


def test_a_failed_export_names_its_noisiest_layers_before_its_figures(made):
    text = Text(made.page(diagnosis=NOISY)).text
    assert "2 layers lose more in int8 than a network can stand: MEAN net/, block4." in text
    assert "MEAN net/ mean −1.5 dB block4 conv 2d 4.3 dB stem conv 2d 40.0 dB sum add ∞ dB" in text
    assert text.index("Gates") < text.index("Error by layer") < text.index("Float against int8")


def test_a_passed_export_shows_the_error_by_layer_behind_its_figures(hand_made):
    sound = Diagnosis(images=32, layers=tuple(noise(f"layer{i}", 40.0 + i) for i in range(9)))
    text = Text(hand_made(agreeing()).page("hand-0.1.0.slimscan", diagnosis=sound)).text
    assert text.index("Float against int8") < text.index("Error by layer") < text.index("How it was made")
    assert "The noisiest 6 of 9 layers of the model as it was quantised after training" in text
    assert "layer5 conv 2d 45.0 dB" in text
    assert "layer6" not in text
    assert "than a network can stand" not in text


def test_what_repair_tried_on_whom_and_with_what_result_is_told(made):
    failed = next(gate for gate in made.export.gates if gate.verdict == "FAIL")
    passed = next(gate for gate in made.export.gates if gate.verdict == "PASS")
    attempts = (
        Attempt(
            name="more", words="from 800 images", verdict="FAIL", gates=(failed, passed), new_misses=7, seconds=1.0
        ),
        Attempt(name="training", words="", not_deployable="no images are left", seconds=0.0),
        Attempt(
            name="in float",
            words="the rest is int8",
            verdict="PASS",
            gates=(passed,),
            new_false_alarms=3,
            worst_layer=noise("stem", 35.25),
            in_float=("block4", "block5"),
            seconds=1.0,
        ),
    )
    repair = Repair(
        images=("t1.png", "t2.png"),
        patients=1,
        positives=1,
        failed_gates=(failed,),
        as_exported=Attempt(name="as exported", words="", verdict="FAIL", gates=(failed,), new_misses=11, seconds=1.0),
        attempts=attempts,
        chosen="in float",
    )
    text = Text(made.page(repair=repair, diagnosis=NOISY)).text
    assert f"As exported, the model did not pass 1 gate on the patients that accept: {failed.name}." in text
    assert "In float was chosen of what was tried" in text
    assert "by the same gates on the repair split: 2 images (1 PNEUMONIA) of 1 training patient" in text
    assert f"as exported FAIL failed: {failed.name} 11 / 0 1 of 1 0 inconclusive" in text
    assert f"more FAIL from 800 images failed: {failed.name} 7 / 0 1 of 2 0 inconclusive" in text
    assert "training not judged no images are left – –" in text
    assert (
        "in float PASS, chosen the rest is int8; in float: block4, block5 noisiest layer: stem, 35.2 dB 0 / 3" in text
    )
    assert "of the model as it was before the repair" in text
    gone = dataclasses.replace(repair, chosen=None)
    assert (
        "Nothing that was tried helped; this report is about the model as exported."
        in Text(made.page(repair=gone)).text
    )


def test_a_microcontrollers_answer_is_told_or_why_there_is_none(made):
    check = MicroCheck(
        arena_bytes=204_800,
        images=2,
        reference_steps={"logits": 0, "evidence": 1},
        golden_steps={"logits": 3, "evidence": 2},
    )
    text = Text(made.page(micro=check)).text
    assert "TFLite Micro runs it in 200 KiB of arena (204,800 bytes)." in text
    assert (
        "On 2 golden images its integers are at most 1 step from the same kernels' of ai-edge-litert and 3 steps"
        in text
    )
    off = dataclasses.replace(check, reference_steps={"logits": 9, "evidence": 0})
    assert "TFLite Micro runs it, but answers otherwise in 200 KiB" in Text(made.page(micro=off)).text
    assert "microcontroller not looked at: no bundle was written" in Text(made.page()).text


def carded(made: HandMade, shifts: tuple[Shifted, ...] = ()) -> bytes:
    export = made.export
    bundle = make_bundle(
        made.run,
        export.variants["int8"],
        export.operating_point,
        in_short(export.gates),
        export.verdict,
        name="hand",
        model_version="0.1.0",
        sets=compare_sets(made.run.split, export.candidate.pair),
        shifts=compare_shifts(shifts or export.candidate.shifts),
    )
    return bundle.members[CARD]


def test_the_card_is_small_the_same_each_time_and_has_both_models(made):
    card = carded(made)
    assert card == carded(made)
    assert len(card) < 12_000
    text = Text(card.decode()).text
    assert NOT_A_MEDICAL_DEVICE in text
    assert "verdict FAIL" in text
    assert "positive class PNEUMONIA negative class NORMAL" in text
    assert "val : 8 images of 8 patients" in text
    assert "AUROC 0.875" in text  # of float
    assert re.search(r"sensitivity 0\.750 [\d.–]+ 0\.500 0\.068–0\.932", text)
    assert re.search(r"AUROC sensitivity specificity blur 0\.\d{3} 0\.667 \d\.\d{3} Gates", text)
    assert "http" not in card.decode()


def test_the_card_has_each_shift_the_hardest_first(made):
    pair = made.export.candidate.pair
    as_float = dataclasses.replace(pair, candidate=pair.reference, candidate_threshold=pair.reference_threshold)
    card = carded(made, (Shifted(name="noise", pair=as_float), Shifted(name="blur", pair=pair)))
    rows = re.findall(r"(blur|noise) \d\.\d{3} (\d\.\d{3}) \d\.\d{3}", Text(card.decode()).text)
    assert rows == [("blur", "0.667"), ("noise", "0.833")]  # of six positives float finds five, int8 four
