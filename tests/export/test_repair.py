"""Repair: judged on training patients apart from all others, the nearest try chosen, a broken model mended."""

import json
import math
from pathlib import Path

import pytest

from slimscan_edge.bundle import read_bundle
from slimscan_edge.cli import main
from slimscan_edge.errors import InputError
from slimscan_edge.golden import TOLERANCE_STEPS
from slimscan_export.judging import ExportConfig
from slimscan_export.paired_gates import Gate
from slimscan_export.repair import MOST_IMAGES, Attempt, choose, not_deployable, repair_split
from slimscan_train.dataset import LabelledImage
from slimscan_train.split import Split

LABELS = ("NORMAL", "PNEUMONIA")


def labelled(number: int, label: str, split: str, sha256: str = "") -> LabelledImage:
    """Two images a patient."""
    return LabelledImage(
        path=f"{split}-{label}-{number}.png",
        label=label,
        patient=f"{split}-{label}-{number // 2}",
        group=label,
        series="",
        number=0,
        split=split,
        sha256=sha256 or f"{split}-{label}-{number}",
    )


def split_of(count: int, *more: LabelledImage) -> Split:
    images = [labelled(i, label, split) for split in ("train", "val") for label in LABELS for i in range(count)]
    return Split(labels=LABELS, naming="generic", images=(*images, *more))


def test_the_repair_split_is_half_of_the_training_patients_and_nobody_who_accepts():
    split = split_of(40)
    found = repair_split(split, seed=0)
    judging, left = found.select("val"), found.select("train")
    assert {image.path for image in found.images} == {image.path for image in split.select("train")}
    assert not {image.patient for image in judging} & {image.patient for image in left}
    assert [sum(image.label == label for image in judging) for label in LABELS] == [20, 20]
    assert repair_split(split, seed=0) == found != repair_split(split, seed=1)


def test_the_repair_split_is_no_larger_than_it_has_to_be():
    found = repair_split(split_of(4 * MOST_IMAGES), seed=0)
    assert [sum(image.label == label for image in found.select("val")) for label in LABELS] == [MOST_IMAGES] * 2


def test_no_picture_is_on_two_sides():
    """One training picture is that of somebody who accepts; two training patients share all of theirs."""
    copies = [labelled(i, label, "train", sha256="the same") for label in LABELS for i in range(100, 130)]
    found = repair_split(split_of(40, labelled(90, "NORMAL", "train", sha256="val-NORMAL-0"), *copies), seed=0)
    assert "train-NORMAL-90.png" not in {image.path for image in found.images}
    sides = {image.split for image in found.images if image.sha256 == "the same"}
    assert sides == {"val"}


def test_too_few_patients_are_refused():
    with pytest.raises(InputError, match="got 3 training patients of class NORMAL to repair with, expected 4"):
        repair_split(split_of(6), seed=0)


def attempt(name: str, *verdicts: str, not_deployable: str = "") -> Attempt:
    gates = tuple(Gate(name=str(i), verdict=v, measured="", allowed="") for i, v in enumerate(verdicts))
    worst = next((v for v in ("FAIL", "INCONCLUSIVE", "PASS") if v in verdicts), None)
    return Attempt(name=name, words="", verdict=worst, gates=gates, not_deployable=not_deployable, seconds=0.0)


P, F, I = "PASS", "FAIL", "INCONCLUSIVE"  # noqa: E741


@pytest.mark.parametrize(
    ("attempts", "chosen"),
    [
        ([attempt("a", F, F, F), attempt("b", P, P, P)], "b"),
        ([attempt("a", F, P, P), attempt("b", I, I, P)], "b"),
        ([attempt("a", F, I, I), attempt("b", F, I, P), attempt("c", F, I, P)], "b"),
        ([attempt("a", F, F, P), attempt("b", F, F, F)], None),
        ([attempt("a", not_deployable="its outputs are float32, not int8")], None),
        ([], None),
    ],
)
def test_the_nearest_attempt_is_chosen_if_it_is_nearer_than_the_model_as_exported(attempts, chosen):
    assert choose(attempt("as exported", F, F, P), attempts) == chosen


def test_repair_starts_from_int8_made_after_training():
    with pytest.raises(ValueError, match="tries qat itself"):
        ExportConfig(name="x", version="0.1.0", quantisation="qat", repair=True)


def test_repair_is_not_of_the_ladder(capsys):
    assert main(["export", "no-run", "--out", "x-0.1.0.slimscan", "--ladder", "--repair"]) == 2
    assert "leave out either" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_device_does_not_take_is_told(exported):
    assert not_deployable(exported.variants["int8"]) == ""
    assert "input" in not_deployable(exported.variants["float32"])


@pytest.mark.slow
def test_a_model_with_one_layer_rescaled_is_diagnosed_to_it_and_repaired(
    broken_run: Path, squares_policy: Path, tmp_path: Path, capsys
):
    out = tmp_path / "mended-0.1.0.slimscan"
    words = ["--policy", str(squares_policy), "--calibration-images", "64", "--repair"]
    assert main(["export", str(broken_run), "--out", str(out), *words]) == 0
    printed = capsys.readouterr().out
    assert "repair, larger calibration set: FAIL" in printed
    assert "repair chose: cross-layer equalisation" in printed
    assert read_bundle(out).manifest.verdict == "PASS"

    evidence = out.with_suffix(".export")
    record = json.loads((evidence / "export.json").read_text())
    assert record["verdict"] == "PASS"
    layers = sorted(
        record["diagnosis"]["layers"], key=lambda found: math.inf if found["sqnr_db"] is None else found["sqnr_db"]
    )
    assert layers[0]["layer"] == "block5_pointwise"
    assert layers[0]["sqnr_db"] < 20 < layers[1]["sqnr_db"]
    assert {gate["verdict"] for gate in record["gates"]} == {"PASS"}
    assert max(record["micro"]["reference_steps"].values()) <= TOLERANCE_STEPS

    repair = record["repair"]
    assert "FAIL" in {gate["verdict"] for gate in repair["failed_gates"]}
    assert (repair["as_exported"]["verdict"], repair["as_exported"]["worst_layer"]["layer"]) == (
        "FAIL",
        "block5_pointwise",
    )
    calibrated, equalised = repair["attempts"]
    assert calibrated["worst_layer"]["layer"] == "block5_pointwise"
    assert equalised["verdict"] != "FAIL"
    assert equalised["worst_layer"]["sqnr_db"] > 20
    split = {image["path"]: image for image in json.loads((broken_run / "split.json").read_text())["images"]}
    judged = {split[image]["patient"] for image in repair["images"]}
    assert {split[image]["split"] for image in repair["images"]} == {"train"}
    assert len(judged) == repair["patients"]
    assert not judged & {score["patient"] for score in record["scores"]}
    assert record["calibration"]["patients"] + len(judged) <= len(
        {image["patient"] for image in split.values() if image["split"] == "train"}
    )

    page = (evidence / "report.html").read_text()
    assert "Cross-layer equalisation</strong> was chosen" in page
    assert "A layer loses more in int8 than a network can stand: block5_pointwise." in page


def test_an_attempt_names_its_gates_by_verdict():
    found = attempt("a", P, F, I, F)
    assert (found.by_verdict("FAIL"), found.by_verdict("INCONCLUSIVE")) == (("1", "3"), ("2",))
