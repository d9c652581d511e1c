import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slimscan_edge.classifier import NOT_A_MEDICAL_DEVICE
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_train.config import TrainConfig
from slimscan_train.dataset import LabelledImage
from slimscan_train.fit import EpochRow
from slimscan_train.model import ModelConfig
from slimscan_train.report import render, write_report
from slimscan_train.run import Run, ScoreRow, write_scores
from slimscan_train.split import Split, write_split
from slimscan_train.summary import MOST_CASES, why_parted

HOSTILE = "<img src=x onerror=alert(1)>&\"'"
LABELS = ("NORMAL", "PNEUMONIA")
POINT = OperatingPoint(
    temperature=2.0,
    threshold=0.5,
    target_sensitivity=0.9,
    refer_low=0.5,
    refer_high=0.5,
    chosen_on="val: 8 images of 8 patients",
)
CONFIG = TrainConfig(preprocess=PreprocessSpec(height=32, width=32), model=ModelConfig(width=0.05))

Rows = Sequence[tuple[str, str, str, str, float]]
"""Split, shift, group, name and logit."""

VAL: Rows = (
    ("val", "", "bacteria", "p1", 3.0),
    ("val", "", "bacteria", "p2", 1.0),
    ("val", "", "virus", "p3", 2.0),
    ("val", "", "virus", "p4", 0.5),
    ("val", "", "normal", "n1", -3.0),
    ("val", "", "normal", "n2", -1.0),
    ("val", "", "normal", "n3", -2.0),
    ("val", "", "normal", "n4", -0.5),
)
VAL_SHIFT: Rows = (
    ("val_shift", "", "virus", "p5", 2.0),
    ("val_shift", "", "virus", "p6", 0.1),
    ("val_shift", "", "normal", "n5", -2.0),
)


def under(shift: str, *logits: float) -> Rows:
    """The images of `VAL` with other logits."""
    return [("val", shift, group, name, logit) for (_, _, group, name, _), logit in zip(VAL, logits, strict=True)]


SHIFTS: Rows = (
    *under("darker", 3, 1, 2, -0.5, -3, -1, -2, -0.5),  # sensitivity 3/4, specificity 1
    *under("blur", 3, 1, 2, 0.5, 3, 1, 2, -0.5),  # sensitivity 1, specificity 1/4
)


def history(*losses: tuple[float, float]) -> list[EpochRow]:
    """Training and validation loss of each epoch."""
    return [
        EpochRow(
            epoch=epoch,
            learning_rate=1e-3,
            train_loss=train,
            train_plain_loss=train,
            val_loss=val,
            val_auroc=0.9,
            val_sensitivity=0.9,
            val_specificity=0.9,
            seconds=1.0,
        )
        for epoch, (train, val) in enumerate(losses)
    ]


TOGETHER = history((0.6, 0.62), (0.3, 0.33), (0.2, 0.24))
PARTED = history((0.6, 0.62), (0.3, 0.38), (0.05, 0.47))


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    monkeypatch.setenv("SLIMSCAN_CACHE", str(tmp_path / "cache"))

    def make(
        rows: Rows,
        *,
        rows_of_history: Sequence[EpochRow] = TOGETHER,
        naming: str = "generic",
        unreadable: dict[str, str] | None = None,
        labels: tuple[str, str] = LABELS,
    ) -> Run:
        folder = tmp_path / "run"
        folder.mkdir()
        scores = [
            ScoreRow(
                image=f"{name}.png",
                split=split,
                shift=shift,
                patient=name,
                label=labels[group != "normal"],
                group=group,
                logit=logit,
            )
            for split, shift, group, name, logit in rows
        ]
        write_scores(folder / "scores.csv", scores)
        images = tuple(image_of(row) for row in scores if not row.shift)
        split = Split(labels=labels, naming=naming, images=images)
        write_split(folder / "split.json", split)
        (folder / "data.json").write_text(json.dumps({"unreadable": unreadable or {}}))
        (folder / "model.keras").write_bytes(b"not looked into unless there are errors to draw")
        write_history(folder / "history.csv", rows_of_history)
        return Run(folder=folder, config=CONFIG, split=split, data_root=tmp_path / "data", operating_point=POINT)

    return make


def image_of(row: ScoreRow) -> LabelledImage:
    return LabelledImage(
        path=row.image,
        label=row.label,
        patient=row.patient,
        group=row.group,
        series=row.group,
        number=0,
        split=row.split,
        sha256=row.image,
    )


def write_history(path: Path, rows: Sequence[EpochRow]) -> None:
    names = EpochRow.__dataclass_fields__
    lines = [",".join(names), *(",".join(str(getattr(row, name)) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def figures_of(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "report.json").read_text())
    return found


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(path: Path) -> Page:
    return Page(path.read_text())


def test_the_figures_are_those_counted_by_hand(make_run: Callable[..., Run]) -> None:
    run = make_run([*VAL, *VAL_SHIFT, *SHIFTS])
    write_report(run)
    found = figures_of(run)
    names = [(row["split"], row["shift"]) for row in found["sets"]]
    assert names == [("val", ""), ("val_shift", ""), ("val", "darker"), ("val", "blur")]
    darker = found["sets"][2]
    assert [darker[name] for name in ("true_positives", "false_negatives", "true_negatives", "false_positives")] == [
        3,
        1,
        4,
        0,
    ]
    assert darker["sensitivity"] == pytest.approx({"value": 0.75, "low": 0.19412, "high": 0.99369}, abs=1e-5)
    assert darker["auroc"]["value"] == pytest.approx(15.5 / 16)
    assert (found["sets"][1]["images"], found["sets"][1]["patients"]) == (3, 3)
    assert found["operating_point"]["threshold"] == 0.5


def test_the_worst_shift_has_the_least_mean_of_both_figures(make_run: Callable[..., Run]) -> None:
    run = make_run([*VAL, *SHIFTS])
    page = read_page(write_report(run))
    assert figures_of(run)["worst_shift"] == "blur"  # (1 + 1/4) / 2 against (3/4 + 1) / 2
    assert "Worst named shift: blur" in page.text


def test_a_missed_target_is_said_with_its_size(make_run: Callable[..., Run]) -> None:
    text = read_page(write_report(make_run([*VAL, *SHIFTS]))).text
    assert re.search(r"target sensitivity of 0.9 is missed on 1 of 3 sets:\s+val \(darker\) by 0.150\.", text)


def test_a_kept_target_is_said(make_run: Callable[..., Run]) -> None:
    assert (
        "target sensitivity of 0.9 is kept on all 2 sets" in read_page(write_report(make_run([*VAL, *VAL_SHIFT]))).text
    )


def test_groups_have_the_figure_of_their_class(make_run: Callable[..., Run]) -> None:
    run = make_run([*VAL, *VAL_SHIFT])
    write_report(run)
    groups = {(row["split"], row["group"]): row for row in figures_of(run)["groups"]}
    assert groups["val", "virus"]["measure"] == "sensitivity"
    assert groups["val", "normal"]["measure"] == "specificity"
    assert groups["val_shift", "virus"]["images"] == 2
    assert ("val_shift", "bacteria") not in groups


def test_calibration_is_measured_before_and_after_temperature(make_run: Callable[..., Run]) -> None:
    run = make_run(VAL)
    write_report(run)
    (found,) = figures_of(run)["calibration"]
    logits = np.array([3.0, 1.0, 2.0, 0.5])  # positives; the negatives mirror them, each image is a bin of its own
    assert found["error_before"] == pytest.approx(np.mean(1 - 1 / (1 + np.exp(-logits))))
    assert found["error_after"] == pytest.approx(np.mean(1 - 1 / (1 + np.exp(-logits / 2))))


def test_the_page_loads_nothing(make_run: Callable[..., Run]) -> None:
    path = write_report(make_run([*VAL, *VAL_SHIFT, *SHIFTS], naming="kermany"))
    assert "http" not in path.read_text()
    page = read_page(path)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name.endswith("href")]
    assert all(value and value.startswith("#") for value in links)
    assert path.stat().st_size < 2_000_000


def test_the_first_words_say_that_it_is_no_medical_device(make_run: Callable[..., Run]) -> None:
    page = read_page(write_report(make_run(VAL)))
    body = page.text[page.text.index("Not a medical") :]
    assert body.startswith(NOT_A_MEDICAL_DEVICE)
    assert page.text.index(NOT_A_MEDICAL_DEVICE) < page.text.index("Training report: run")
    assert "PNEUMONIA (the positive class) against NORMAL" in page.text


def test_hostile_names_are_shown_and_not_obeyed(make_run: Callable[..., Run]) -> None:
    rows = [
        (split, shift, f"{group}{HOSTILE}" * (group == "virus") or group, *rest) for split, shift, group, *rest in VAL
    ]
    run = make_run(rows, naming=HOSTILE, unreadable={f"{HOSTILE}.png": HOSTILE}, labels=(f"A{HOSTILE}", f"B{HOSTILE}"))
    page = read_page(write_report(replace(run, data_root=Path(HOSTILE))))
    assert not [attributes for _, attributes in page.elements if "onerror" in attributes]
    assert not [tag for tag, _ in page.elements if tag == "img"]
    for shown in (f"{HOSTILE}.png", f"B{HOSTILE}", f"virus{HOSTILE}"):
        assert shown in page.text


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        (TOGETHER, []),
        (PARTED, ["kept epoch", "rose by 0.090"]),
        (history((0.30, 0.345)), []),
        (history((0.30, 0.355)), ["0.055 above"]),
        (history((0.30, 0.30), (0.40, 0.345)), []),
        (history((0.30, 0.30), (0.40, 0.355)), ["rose by 0.055"]),
    ],
)
def test_losses_part_by_the_stated_rule(rows: Sequence[EpochRow], reasons: Sequence[str]) -> None:
    found = why_parted(rows)
    assert len(found) == len(reasons)
    assert all(part in sentence for part, sentence in zip(reasons, found, strict=True))


@pytest.mark.parametrize(("rows", "parted"), [(TOGETHER, False), (PARTED, True)])
def test_the_page_says_whether_losses_part(make_run: Callable[..., Run], rows: list[EpochRow], parted: bool) -> None:
    run = make_run(VAL, rows_of_history=rows)
    text = read_page(write_report(run)).text
    assert ("The two losses part." in text) is parted
    assert ("The two losses stay together." in text) is not parted
    assert bool(figures_of(run)["learning"]["parted"]) is parted


def test_without_patients_held_out_by_series(make_run: Callable[..., Run]) -> None:
    page = read_page(write_report(make_run(VAL)))
    assert "val_shift" not in page.text
    assert "Under named shifts" not in page.text


def test_a_set_of_one_class_has_the_figure_it_can_have(make_run: Callable[..., Run]) -> None:
    run = make_run([*VAL, ("val_shift", "", "normal", "n6", -1.0)])
    page = read_page(write_report(run))
    found = figures_of(run)["sets"][1]
    assert (found["sensitivity"], found["auroc"], found["specificity"]["value"]) == (None, None, 1.0)
    assert re.search(r"On\s+val_shift\s+the model clears 100.0", page.text)


@pytest.mark.parametrize(("patients", "sure"), [(3, False), (12, True)])
def test_few_patients_do_not_show_a_model_better_than_chance(
    make_run: Callable[..., Run], patients: int, sure: bool
) -> None:
    rows = [
        ("val", "", group, f"{group} {i}", logit)
        for group, logit in (("virus", 1.0), ("normal", -1.0))
        for i in range(patients)
    ]
    text = read_page(write_report(make_run(rows))).text
    assert ("not shown to be better than chance" in text) is not sure


@pytest.mark.parametrize("naming", ["kermany", "generic", "column"])
def test_the_reference_data_is_attributed_where_its_names_are_seen(make_run: Callable[..., Run], naming: str) -> None:
    text = read_page(write_report(make_run(VAL, naming=naming))).text
    assert ("10.17632/rscbjbr9sj, CC BY 4.0" in text) is (naming == "kermany")
    assert ("Every file was taken for a patient of its own" in text) is (naming == "generic")


def test_copies_and_unreadable_files_are_listed(make_run: Callable[..., Run]) -> None:
    run = make_run([*VAL, *VAL_SHIFT], unreadable={"PNEUMONIA/cut.jpeg": "cut.jpeg is damaged"})
    alike = tuple(
        replace(image, sha256="same") if image.path in ("p1.png", "n1.png") else image for image in run.split.images
    )
    run = replace(run, split=replace(run.split, images=alike))
    text = read_page(write_report(run)).text
    assert "cut.jpeg is damaged" in text
    assert figures_of(run)["data"]["copies"] == [["p1.png", "n1.png"]]
    assert "1 of them under both labels" in text


def test_the_worst_errors_are_drawn_with_their_evidence(make_run: Callable[..., Run]) -> None:
    from slimscan_train.model import build_model

    misses: Rows = [("val", "", "virus", f"miss {i} {HOSTILE}", -float(i)) for i in range(1, MOST_CASES + 3)]
    alarms: Rows = [("val_shift", "", "normal", "alarm", 1.0)]
    run = make_run([*VAL, *misses, *alarms])
    run.data_root.mkdir()
    rng = np.random.default_rng(0)
    for image in run.split.images:
        Image.fromarray(rng.integers(0, 256, (40, 30), np.uint8)).save(run.data_root / image.path)
    drawn = tuple(
        replace(image, sha256=sha256((run.data_root / image.path).read_bytes()).hexdigest())
        for image in run.split.images
    )
    run = replace(run, split=replace(run.split, images=drawn))
    build_model(CONFIG.model, 32, 32).save(run.folder / "model.keras")

    page = read_page(write_report(run))

    found = figures_of(run)
    assert [case["image"] for case in found["misses"]] == [f"miss {i} {HOSTILE}.png" for i in range(10, 2, -1)]
    assert found["misses"][0]["probability"] == pytest.approx(1 / (1 + np.exp(10 / 2)))
    assert [case["image"] for case in found["false_alarms"]] == ["alarm.png"]
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) == 2 * (MOST_CASES + 1)  # each with its evidence
    assert all((picture["src"] or "").startswith("data:image/png;base64,") for picture in pictures)
    assert all(set(picture) <= {"src", "alt", "class"} for picture in pictures)
    assert pictures[0]["alt"] == f"miss 10 {HOSTILE}.png"


def test_a_name_without_a_value_is_an_error(tmp_path: Path) -> None:
    from jinja2 import UndefinedError

    (tmp_path / "card.html").write_text(
        "{% extends 'base.html' %}{% block title %}{% endblock %}{% block content %}{{ x }}{% endblock %}"
    )
    assert "&lt;b&gt;" in render(tmp_path / "card.html", x="<b>")
    with pytest.raises(UndefinedError):
        render(tmp_path / "card.html")


def test_nothing_heavy_is_imported_with_the_module() -> None:
    heavy = ("tensorflow", "tf_keras", "matplotlib", "jinja2", "sklearn", "scipy")
    code = f"import sys, slimscan_train.report; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
