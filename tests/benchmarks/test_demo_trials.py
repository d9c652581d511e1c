"""The record of demo trials: what a row takes from an export, that a file is gone on with, and the table."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from slimscan_edge.operating_point import OperatingPoint

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "demo_trials.py"


@pytest.fixture(scope="module")
def trials() -> ModuleType:
    """The script, which is in no package."""
    spec = importlib.util.spec_from_file_location("demo_trials", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_trials"] = module
    spec.loader.exec_module(module)
    return module


def point(threshold: float) -> dict[str, Any]:
    """At temperature 1 without a bias, so that a logit of 0 is a probability of 0.5."""
    return {
        "temperature": 1.0,
        "bias": 0.0,
        "threshold": threshold,
        "target_sensitivity": 0.98,
        "refer_low": threshold,
        "refer_high": threshold,
        "chosen_on": "val",
    }


def export(**changes: Any) -> dict[str, Any]:
    """What an `export.json` holds of four images, two of them ill; float finds both of those as they are."""
    logits = {"a": (True, 2.0), "b": (True, 1.0), "c": (False, -1.0), "d": (False, -2.0)}
    return {
        "verdict": "PASS",
        "gates": [{"name": "new misses", "verdict": "PASS"}],
        "float_operating_point": point(0.5),
        "operating_point": point(0.5),
        "scores": [
            {"image": image, "split": "val", "positive": positive, "float": logit, "int8": logit}
            for image, (positive, logit) in logits.items()
        ],
        "shift_images": list(logits),
        "shift_scores": {"blur": {"float": [2.0, -0.1, 3.0, -1.0]}, "noise": {"float": [2.0, 0.0, -1.0, -1.0]}},
        "new_misses": [],
        **changes,
    }


def test_a_row_holds_the_least_sensitivity_of_the_float_model_and_the_gates_that_did_not_pass(trials):
    """Under blur one of two positives is found; at the threshold itself counts as found."""
    assert OperatingPoint(**point(0.5)).logit_threshold == 0
    gates = [{"name": "new misses", "verdict": "FAIL"}, {"name": "AUROC loss", "verdict": "PASS"}]
    assert trials.told(export(verdict="FAIL", gates=gates, new_misses=["a"])) == {
        "auroc": 1.0,
        "worst_sensitivity": 0.5,
        "worst_shift": "blur",
        "new_misses": 1,
        "not_passed": "FAIL new misses",
        "verdict": "FAIL",
    }


def test_what_was_written_is_read_again_and_not_run_again(trials, tmp_path, monkeypatch, capsys):
    ran = []

    def trial(seed: int, variant: str, *, whole: bool) -> Any:
        ran.append((seed, variant))
        judged = {"verdict": "PASS", "auroc": 0.99, "bundle": 9, "new_misses": 0, "worst_sensitivity": 1.0}
        return trials.Trial(seed=seed, variant=variant, exit_code=0, seconds=1.0, cpu_seconds=2.0, **judged)

    monkeypatch.setattr(trials, "run_trial", trial)
    file = tmp_path / "new" / "trials.csv"
    words = ["demo_trials.py", "--out", str(file), "--variants", "xla-off", "one-thread", "--seeds"]
    monkeypatch.setattr(sys, "argv", [*words, "0"])
    assert trials.main() == 0
    monkeypatch.setattr(sys, "argv", [*words, "0", "1"])
    assert trials.main() == 0
    assert ran == [(0, "xla-off"), (0, "one-thread"), (1, "xla-off"), (1, "one-thread")]
    read = trials.read_trials(file)
    assert [(found.seed, found.variant) for found in read] == ran
    assert read[0] == trial(0, "xla-off", whole=False)
    assert "| 1 | PASS 0.9900 1.000 0 | PASS 0.9900 1.000 0 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes", [{"verdict": "FAIL"}, {"verdict": ""}, {"bundle": 0}, {"exit_code": 1}], ids=lambda changed: str(changed)
)
def test_only_a_pass_with_a_bundle_and_exit_code_0_has_passed(trials, tmp_path, monkeypatch, capsys, changes):
    good = {"seed": 0, "variant": "one-thread", "verdict": "PASS", "bundle": 9, "exit_code": 0}
    rows = [
        trials.Trial(**{**good, **changed}, seconds=1.0, cpu_seconds=1.0) for changed in ({}, {**changes, "seed": 1})
    ]
    assert [row.passed for row in rows] == [True, False]
    for row in rows:
        trials.append_trial(tmp_path / "trials.csv", row)
    monkeypatch.setattr(
        sys, "argv", ["", "--out", str(tmp_path / "trials.csv"), "--variants", "one-thread", "--seeds", "0", "1"]
    )
    assert trials.main() == 1
    cells = [line.split("|")[2].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("| 1 |")]
    assert cells[0].startswith("**")


def test_two_exports_are_compared_image_by_image(trials):
    """The second decides b otherwise, at the same logits by a higher threshold: sigmoid(1.5) = 0.818."""
    told = list(trials.differences([export(), export(operating_point=point(0.8175744761936437), verdict="FAIL")]))
    assert told[0].startswith("verdict PASS; on val float AUROC 1.0000 (+0.0000), int8 AUROC 1.0000 (+0.0000)")
    assert told[0].endswith("int8 threshold 0.500 (+0.000); 0 of 4 int8 decisions differ")
    assert told[1].startswith("verdict FAIL")
    assert told[1].endswith("int8 threshold 0.818 (+0.318); 1 of 4 int8 decisions differ")


def test_a_trial_that_ends_before_its_gates_is_a_row_without_a_verdict(trials, monkeypatch):
    monkeypatch.setattr(trials, "_CHILD", "import sys; sys.exit(4)")
    row = trials.run_trial(3, "one-thread", whole=False)
    assert (row.seed, row.exit_code, row.verdict, row.bundle, row.passed) == (3, 4, "", 0, False)


def test_a_variant_reaches_the_process_of_its_trial(trials, monkeypatch):
    monkeypatch.setattr(trials, "_CHILD", "import os, sys; sys.exit(os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0')")
    assert [trials.run_trial(0, name, whole=False).exit_code for name in ("onednn-off", "xla-off")] == [1, 0]
