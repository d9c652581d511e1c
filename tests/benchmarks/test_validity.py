"""Runs that are worth nothing are marked, on machines that are folders."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from slimscan_bench.environment import read_environment
from slimscan_bench.measuring import Plan, measure
from slimscan_bench.validity import MIN_ROUNDS_FOR_SPREAD, differences, reasons_invalid, spread_of_rounds

FLAGS = "sys/devices/platform/soc/soc:firmware/get_throttled"
GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
LIMIT = "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq"
CALM = {
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1\n",
    FLAGS: "0\n",
    GOVERNOR: "performance\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "600000\n",
    LIMIT: "1500000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/class/thermal/thermal_zone0/temp": "48199\n",
}


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def state(root, **files):
    return read_environment(interpreter="some_interpreter 1.0", root=write(root, files))


@pytest.fixture
def pi(tmp_path):
    return write(tmp_path / "pi", CALM)


@pytest.fixture
def measured(pi, tmp_path, classifier, golden_bundle_path):
    """Measure on a machine to which something happens after the first round."""
    picture = tmp_path / "grey.png"
    Image.fromarray(np.full((90, 120), 200, np.uint8)).save(picture)
    plan = Plan(
        command="",
        bundle_path=golden_bundle_path,
        synthetic=False,
        processes=1,
        warmup=0,
        repeats=2,
        against=(),
        scaling=False,
        operators=False,
        instructions=False,
        cold_starts=0,
    )

    def run(happens):
        def progress(what, total):
            return lambda done: write(pi, happens)

        return measure(classifier, [picture], plan, progress=progress, root=pi)

    return run


def test_a_calm_run_is_valid_and_says_so(measured):
    record = measured({})
    assert record.invalid == ()
    assert record.to_table()["summary"]["valid"] is True
    assert not any("INVALID" in line for line in record.to_lines())
    assert record.environment.board is None
    assert record.environment.cpu_model == "Raspberry Pi 4 Model B Rev 1.1"
    assert record.environment.delegate == "XNNPACK"


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        ({FLAGS: "40004\n"}, "the board reports throttled now, after the measurement"),
        ({FLAGS: "40000\n"}, "the board reports throttled since start, after the measurement"),
        ({GOVERNOR: "powersave\n"}, "governor was performance, is powersave, while measuring"),
        (
            {LIMIT: "600000\n"},
            "frequency_policies was performance 600-1500 MHz, is performance 600-600 MHz, while measuring",
        ),
    ],
)
def test_a_run_to_which_something_happens_is_marked(measured, happens, reason):
    record = measured(happens)
    assert reason in record.invalid
    assert record.to_table()["summary"]["valid"] is False
    assert reason in record.to_table()["summary"]["invalid"]
    assert f"INVALID: {reason}" in record.to_lines()


def test_a_board_that_throttled_before_cannot_show_that_it_does_so_again(measured, pi):
    write(pi, {FLAGS: "50000\n"})
    assert measured({}).invalid == (
        "the board reports under-voltage since start, before the measurement",
        "the board reports throttled since start, before the measurement",
    )


def test_a_clock_that_moves_within_its_policy_is_no_change(pi):
    before = state(pi)
    warmer = {"sys/class/thermal/thermal_zone0/temp": "61000\n"}
    slower = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n"}
    assert reasons_invalid(before, state(pi, **warmer, **slower)) == ()
    assert differences(before, state(pi)) == ()


def test_a_noisy_run_is_marked(pi):
    calm = [4.0, 4.1] * MIN_ROUNDS_FOR_SPREAD
    here = state(pi)
    assert reasons_invalid(here, here, calm) == ()
    (reason,) = reasons_invalid(here, here, [*calm, 5.9, 6.0, 7.0, 9.0])
    assert reason.startswith("one round in ten took 1.46 times the median round")


def test_a_few_rounds_are_not_judged_and_one_outlier_is_forgiven():
    assert spread_of_rounds([1.0, 9.0, 9.0]) is None
    assert spread_of_rounds([1.0] * 19 + [50.0]) == 1.0
    assert spread_of_rounds([1.0] * 8 + [2.0] * 2) == 2.0


def test_another_processor_is_another_environment(pi, tmp_path):
    other = state(write(tmp_path / "other", {**CALM, "proc/cpuinfo": "model name\t: Example CPU\nflags\t: avx2\n"}))
    found = differences(state(pi), other)
    assert found == (
        "cpu_model was Raspberry Pi 4 Model B Rev 1.1, is Example CPU",
        "cpu_features was asimd, is avx2",
    )
    assert "pillow was 1.0, is 2.0" in differences(
        dataclasses.replace(other, pillow="1.0"), dataclasses.replace(other, pillow="2.0")
    )
