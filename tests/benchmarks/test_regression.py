"""Faster, slower or cannot tell: from planted times, and from builds that are slowed down on purpose."""

import dataclasses
import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.stats import t as student

from slimscan_bench.bootstrap import Interval
from slimscan_bench.environment import read_environment
from slimscan_bench.instructions import Instructions
from slimscan_bench.latency import Taken
from slimscan_bench.regression import (
    Change,
    change_between_runs,
    change_in_turn,
    change_of_instructions,
    student_quantile,
)
from slimscan_bench.speed_comparison import compare_in_turn, compare_records, read_benchmark
from slimscan_bench.turns import Turn, Turns, measure_in_turn, read_side
from slimscan_edge.cli import main
from slimscan_edge.errors import InputError, InterpreterError

TRIALS = 20
PAIRS, ROUNDS, IMAGES = 8, 10, 3
HERE = dataclasses.replace(read_environment(interpreter="some_interpreter 1.0"), throttled_flags=None)


def taken(cpu_ms, wall_ms=None):
    return Taken(wall_ms=cpu_ms if wall_ms is None else wall_ms, cpu_ms=cpu_ms)


def turns(seed, slower=0.0):
    """As measured on a busy machine: it drifts, single answers scatter, processes differ for as long as they live."""
    rng = np.random.default_rng(seed)
    drift = np.exp(np.cumsum(rng.normal(0, 0.05, PAIRS * ROUNDS * IMAGES)))
    process = np.exp(rng.normal(0, 0.012, (2, PAIRS)))
    scatter = np.exp(rng.normal(0, 0.05, (2, PAIRS, ROUNDS, IMAGES)))
    made = []
    for pair, round_number, image in np.ndindex(PAIRS, ROUNDS, IMAGES):
        base = 4.0 * (1 + image) * drift[len(made)]
        old, new = (base * process[k, pair] * scatter[k, pair, round_number, image] * (1 + k * slower) for k in (0, 1))
        made.append(Turn(pair=pair, round=round_number, image=image, old=taken(old), new=taken(new)))
    return made


def test_the_same_build_is_never_called_slower_nor_faster():
    assert [change_in_turn(turns(seed), "cpu").verdict for seed in range(TRIALS)] == ["cannot tell"] * TRIALS


def test_a_tenth_slower_is_found_in_nineteen_of_twenty_and_a_tenth_faster_too():
    found = [change_in_turn(turns(seed, slower=0.10), "cpu").verdict for seed in range(TRIALS)]
    assert found.count("slower") >= 19
    assert [change_in_turn(turns(seed, slower=-0.10), "cpu").verdict for seed in range(TRIALS)].count("faster") >= 19


def test_the_ratio_is_paired_so_the_machine_may_drift_as_it_likes():
    change = change_in_turn(turns(0, slower=0.5), "cpu")
    assert change.ratio == pytest.approx(1.5, rel=0.03)
    assert change.interval.low < 1.5 < change.interval.high


def test_the_verdict_by_hand():
    # Five pairs, one round, one image: the mean of the logarithms, and Student with four degrees of freedom, 2.776.
    ratios = (1.08, 1.09, 1.10, 1.11, 1.12)
    made = [
        Turn(pair=k, round=0, image=0, old=taken(2.0, 1.0), new=taken(2.0 * ratio, 1.0))
        for k, ratio in enumerate(ratios)
    ]
    change = change_in_turn(made, "cpu")
    logs = np.log(ratios)
    reach = 2.776 * logs.std(ddof=1) / np.sqrt(5)
    assert change.ratio == pytest.approx(np.exp(logs.mean()))
    assert change.interval == pytest.approx(np.exp([logs.mean() - reach, logs.mean() + reach]), rel=1e-4)
    assert change.verdict == "slower"
    assert change_in_turn(made, "wall").interval == (1.0, 1.0)
    with pytest.raises(InputError, match="got 4 pairs of processes, expected 5 or more"):
        change_in_turn(made[:4], "cpu")


@pytest.mark.parametrize(
    ("low", "high", "verdict", "ruled_out"),
    [
        (1.031, 1.2, "slower", False),
        (1.029, 1.2, "cannot tell", False),
        (0.99, 1.02, "cannot tell", True),
        (0.96, 0.98, "cannot tell", True),
        (0.9, 0.97, "faster", True),
    ],
)
def test_a_verdict_needs_the_whole_interval_beyond_the_margin(low, high, verdict, ruled_out):
    change = Change(what="", ratio=1.0, interval=Interval(low, high), margin=0.03)
    assert (change.verdict, change.excludes_slower) == (verdict, ruled_out)


@pytest.mark.parametrize("degrees", [4, 5, 7, 11, 29])
def test_students_quantile_is_scipys(degrees):
    assert student_quantile(degrees) == pytest.approx(student.ppf(0.975, degrees), rel=3e-3)


def run_table(seed, slower=0.0):
    """Answers over fixed work of one run, `[rounds, images]`: a process with a percent of its own."""
    rng = np.random.default_rng(seed)
    own = np.exp(rng.normal(0, 0.01))
    return 5.0 * (1 + np.arange(IMAGES)) * own * (1 + slower) * np.exp(rng.normal(0, 0.05, (30, IMAGES)))


def test_two_runs_of_one_build_cannot_be_told_apart_and_a_tenth_is_found():
    same = [change_between_runs(run_table(k), run_table(100 + k), "cpu").verdict for k in range(TRIALS)]
    slow = [change_between_runs(run_table(k), run_table(100 + k, 0.10), "cpu").verdict for k in range(TRIALS)]
    assert same == ["cannot tell"] * TRIALS
    assert slow.count("slower") >= 19
    with pytest.raises(InputError, match="holds 4 rounds, expected 5 or more"):
        change_between_runs(run_table(0)[:4], run_table(1), "cpu")


def test_instructions_are_counted_and_a_percent_more_is_slower():
    assert change_of_instructions(1000.0, 1011.0).verdict == "slower"
    assert change_of_instructions(1000.0, 1009.0).verdict == "cannot tell"
    assert change_of_instructions(1000.0, 1009.0).excludes_slower
    assert change_of_instructions(1000.0, 980.0).verdict == "faster"


@pytest.fixture(scope="module")
def measured(golden_bundle_path, tmp_path_factory):
    """The file of a real record of six rounds, with a machine that says nothing of its clock."""
    folder = tmp_path_factory.mktemp("records")
    path = folder / "record.json"
    picture(folder / "grey.png")
    options = [
        "--processes",
        "3",
        "--repeats",
        "2",
        "--warmup",
        "0",
        "--cold-starts",
        "0",
        "--threads",
        "1",
        "--out",
        str(path),
    ]
    assert main(["bench", str(folder / "grey.png"), "--bundle", str(golden_bundle_path), *options]) == 0
    return path


def picture(path, size=(90, 120)):
    Image.fromarray(np.full(size, 200, np.uint8)).save(path)
    return path


@pytest.fixture
def record(measured):
    """The record, with times that repeat exactly."""
    run = read_benchmark(measured)
    samples = [dataclasses.replace(s, taken=taken(4.0), calibration=taken(1.0)) for s in run.samples]
    return dataclasses.replace(run, samples=tuple(samples), environment=HERE, environment_after=HERE)


def slowed(run, share):
    samples = [dataclasses.replace(s, taken=taken(s.taken.cpu_ms * (1 + share))) for s in run.samples]
    return dataclasses.replace(run, samples=tuple(samples))


def with_instructions(run, per_answer):
    counted = Instructions(way="slimscan", image=run.images[0].name, first=0, more=10 * per_answer)
    return dataclasses.replace(run, instructions=(counted,))


def test_a_record_is_read_back_as_it_was_written(measured):
    table = json.loads(measured.read_text())
    assert json.loads(json.dumps(read_benchmark(measured).to_table())) == table


def test_records_are_compared_by_answers_over_fixed_work(record):
    assert compare_records(record, record, clock="cpu", across=False).exit_code == 0
    slower = compare_records(record, slowed(record, 0.10), clock="cpu", across=False)
    assert slower.changes[0].ratio == pytest.approx(1.1)
    assert (slower.verdict, slower.exit_code) == ("slower", 1)
    # A machine that runs a tenth slower in all that it does has not slowed the build down.
    machine = [dataclasses.replace(s, calibration=taken(1.1)) for s in slowed(record, 0.10).samples]
    drifted = compare_records(record, dataclasses.replace(record, samples=tuple(machine)), clock="cpu", across=False)
    assert drifted.changes[0].ratio == pytest.approx(1.0)


def test_another_processor_is_refused_unless_asked_for_and_then_said(record):
    elsewhere = dataclasses.replace(HERE, cpu_model="Example CPU", cpu_features=("avx2",))
    other = dataclasses.replace(record, environment=elsewhere, environment_after=elsewhere)
    with pytest.raises(InputError, match=r"different environments \(cpu_model was .* add --across-environments"):
        compare_records(record, other, clock="cpu", across=False)
    allowed = compare_records(record, other, clock="cpu", across=True)
    assert any(line.startswith("ACROSS ENVIRONMENTS: cpu_model was") for line in allowed.to_lines())
    assert allowed.to_table()["differences"]


def test_an_invalid_run_tells_nothing_by_its_times_but_its_instructions_hold(record):
    throttled = dataclasses.replace(HERE, throttled_flags=0x4)
    slow = dataclasses.replace(slowed(record, 0.10), environment_after=throttled)
    comparison = compare_records(record, slow, clock="cpu", across=False)
    assert (comparison.verdict, comparison.exit_code) == ("cannot tell", 3)
    assert "INVALID: new: the board reports throttled now, after the measurement" in comparison.to_lines()
    assert comparison.to_lines()[-1] == "CANNOT TELL: the times are worth nothing"
    counted = compare_records(with_instructions(record, 1000), with_instructions(slow, 1050), clock="cpu", across=False)
    assert (counted.verdict, counted.exit_code) == ("slower", 1)
    assert counted.to_lines()[-1].startswith("SLOWER: instructions of an answer +5.0%")


def test_instructions_in_one_record_only_do_not_decide(record):
    comparison = compare_records(with_instructions(record, 1000), slowed(record, 0.1), clock="wall", across=False)
    assert comparison.changes[0].what == "time on the wall over fixed work's"
    assert comparison.verdict == "slower"


def test_runs_of_other_images_or_threads_are_refused(record):
    larger = dataclasses.replace(record.images[0], width=999)
    with pytest.raises(InputError, match="measured different images"):
        compare_records(record, dataclasses.replace(record, images=(larger,)), clock="cpu", across=True)
    with pytest.raises(InputError, match="used 1 and 2 threads"):
        compare_records(record, dataclasses.replace(record, threads=2), clock="cpu", across=True)


def test_files_that_are_no_records_are_refused(tmp_path, measured):
    for name, text, message in (
        ("absent.json", None, "cannot be read"),
        ("words.json", "no JSON", "is no JSON"),
        ("list.json", "[1]", "is no record"),
        ("old.json", '{"schema_version": 2, "samples": []}', "it says 2"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message):
            read_benchmark(tmp_path / name)
    assert main(["bench", "--compare", str(measured), str(tmp_path / "old.json")]) == 2


def test_command_compares_two_records(measured, capsys, tmp_path):
    out = tmp_path / "comparison.json"
    code = main(["bench", "--compare", str(measured), str(measured), "--clock", "wall", "--out", str(out)])
    lines, table = capsys.readouterr().out.splitlines(), json.loads(out.read_text())
    assert code in (0, 3)  # of one and the same times, whose spread decides whether slower is ruled out
    assert table["verdict"] == "cannot tell"
    assert [change["ratio"] for change in table["changes"]] == [1.0, 1.0]
    assert table["changes"][0]["what"] == "time on the wall over fixed work's"
    assert lines[-1].startswith("CANNOT TELL")


@pytest.mark.parametrize(
    "words",
    [
        ["--compare", "OLD", "x.slimscan"],
        ["--compare", "OLD", "OLD", "--repeats", "3"],
        ["--compare", "OLD", "OLD", "--check"],
        ["--compare", "BUNDLE", "BUNDLE", "--operators"],
        ["--compare", "BUNDLE", "BUNDLE", "--processes", "2"],
        ["--compare", "x", "y"],
        ["--compare", "BUNDLE", "BUNDLE", "--pairs", "4"],
        ["--compare", "BUNDLE", "BUNDLE", "--across-environments"],
        ["--compare", "OLD", "OLD", "--recipe", "demo"],
        ["--compare", "OLD", "OLD", "--set", "fit.batch=4"],
        ["--compare", "OLD", "OLD", "--steps", "7"],
        ["--compare", "OLD", "OLD", "--ssh", "ssh"],
        ["--compare", "OLD", "OLD", "--remote-program", "slimscan"],
        ["--pairs", "6"],
        ["--clock", "wall"],
    ],
)
def test_options_that_do_not_go_together_are_refused(words, measured, golden_bundle_path, capsys):
    known = {"OLD": str(measured), "BUNDLE": str(golden_bundle_path)}
    assert main(["bench", *(known.get(word, word) for word in words)]) == 2
    assert capsys.readouterr().err.startswith("slimscan bench: ")


def environment(folder, plant=""):
    """Another build: this Python, with something planted in it."""
    (folder / "bin").mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(plant)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


TWICE = """
from slimscan_edge.classifier import Classifier
answer = Classifier.predict
Classifier.predict = lambda self, source: [answer(self, source) for _ in range(2)][-1]
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sh") is None, reason="another build is planted by a shell script")
def test_a_build_that_answers_twice_is_found_slower(tmp_path, golden_bundle_path, capsys):
    old, new = environment(tmp_path / "old build"), environment(tmp_path / "new build", TWICE)
    out = tmp_path / "out.json"
    counts = ["--pairs", "5", "--repeats", "3", "--warmup", "1", "--threads", "1"]
    images = [str(picture(tmp_path / f"grey {k}.png", size=(1200, 1500))) for k in range(2)]
    code = main(
        [
            *["bench", *images, "--bundle", str(golden_bundle_path), *counts],
            *["--out", str(out), "--compare", str(old), str(new)],
        ]
    )
    assert "SLOWER: processors' time" in capsys.readouterr().out
    table = json.loads(out.read_text())
    assert code == 1
    assert len(table["turns"]["turns"]) == 5 * 3 * 2
    assert table["turns"]["images"] == ["grey 0.png", "grey 1.png"]
    assert table["turns"]["old"]["bundle_id"] == table["turns"]["new"]["bundle_id"] == "brightness-1.0.0"
    assert table["changes"][0]["ratio"] > 1.3


def test_a_side_that_ends_is_an_error_and_one_that_is_nothing_is_refused(tmp_path, golden_bundle_path):
    broken = read_side(environment(tmp_path / "broken", "raise SystemExit('no such build')"), golden_bundle_path)
    good = read_side(golden_bundle_path, None)
    image = picture(tmp_path / "grey.png")
    counts = {"threads": 1, "pairs": 1, "warmup": 0, "repeats": 1}
    with pytest.raises(InterpreterError, match=r"broken gave no answer: it ended with exit code 1: .*no such build"):
        measure_in_turn((good, broken), [image], **counts)
    with pytest.raises(InputError, match="is nothing to measure"):
        read_side(tmp_path, None)


def test_sides_that_decide_otherwise_are_named():
    sides = {"slimscan": "0", "bundle_id": "b", "bundle_sha256": "0", "interpreter": "i", "threads": 1}
    measured = Turns(
        old=sides, new=sides, images=("a", "b", "c"), left_out=(), decided_otherwise=("b",), turns=tuple(turns(0))
    )
    calm = dataclasses.replace(HERE, governor="performance", load_average=(0.0, 0.0, 0.0))
    comparison = compare_in_turn(measured, ("x", "y"), before=calm, after=calm, clock="cpu")
    assert comparison.concerns == ("the new one decides otherwise on 1 of 3 images",)
    changed = dataclasses.replace(calm, governor="powersave")
    marked = compare_in_turn(measured, ("x", "y"), before=calm, after=changed, clock="cpu")
    assert marked.invalid == ("governor was performance, is powersave, while measuring",)
    assert (marked.verdict, marked.exit_code) == ("cannot tell", 3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are held to cores on Linux only")
def test_both_processes_of_a_pair_run_on_the_same_cores(tmp_path, golden_bundle_path):
    log = tmp_path / "cores.txt"
    told = environment(
        tmp_path / "telling",
        f"import os; print(sorted(os.sched_getaffinity(0)), file=open({str(log)!r}, 'a'))",
    )
    side, image = read_side(told, golden_bundle_path), picture(tmp_path / "grey.png")
    cores = sorted(os.sched_getaffinity(0))
    measure_in_turn((side, side), [image], threads=1, pairs=2, warmup=0, repeats=1)
    assert log.read_text().splitlines() == [str([cores[k % len(cores)]]) for k in (0, 0, 1, 1)]
    assert sorted(os.sched_getaffinity(0)) == cores
