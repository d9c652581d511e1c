"""The record of a benchmark and its bounds, from planted figures."""

import dataclasses
import json

import pytest

from slimscan_bench import measuring
from slimscan_bench.benchmark import Benchmark, ImageFile
from slimscan_bench.cold_start import ColdStart, Start
from slimscan_bench.environment import read_environment
from slimscan_bench.instructions import Instructions
from slimscan_bench.latency import Sample, Taken
from slimscan_bench.side_by_side import Answer
from slimscan_edge.classifier import Timings
from slimscan_edge.cli import main

HERE = read_environment(interpreter="some_interpreter 1.0")


def image(name, width, height):
    return ImageFile(name=name, width=width, height=height, mode="L", size_bytes=1000)


def taken(wall_ms):
    return Taken(wall_ms=wall_ms, cpu_ms=3 * wall_ms)


def started(ours_ms, bare_ms, *, memory=50.0):
    return ColdStart(
        image="x.jpeg",
        slimscan=Start(first_answer_ms=ours_ms, peak_memory_mib=memory),
        floor=Start(first_answer_ms=bare_ms, peak_memory_mib=40.0),
    )


def planted(*, ours=1.0, plain=2.0, floor=1.0, cold=1.2, memory=50.0, largest=50.0, wrong=0):
    """A benchmark of 10 images in 4 rounds in which every ratio and every figure is exact."""
    timings = Timings(decode_ms=ours, resize_ms=0.0, invoke_ms=0.0, decide_ms=0.0)
    samples = tuple(
        Sample(
            image=i,
            round=r,
            timings=timings,
            taken=taken(ours * (1 + i)),
            calibration=taken(1.0),
            others={"plain": taken(plain * (1 + i)), "floor": taken(floor * (1 + i))},
        )
        for r in range(4)
        for i in range(10)
    )
    answers = tuple(
        Answer(
            probability=0.9,
            decision="positive",
            others={"plain": 0.1, "floor": 0.9},
            other_decisions={"plain": "negative" if i < wrong else "positive", "floor": "positive"},
        )
        for i in range(10)
    )
    return Benchmark(
        command="slimscan bench",
        started="2026-11-22T00:00:00+00:00",
        bundle_id="b-1.0.0",
        bundle_sha256="00",
        bundle_size_bytes=1,
        model_size_bytes=1,
        arena="408 bytes",
        threads=1,
        processes=1,
        warmup=0,
        synthetic=False,
        images=tuple(image(f"{i}.jpeg", 500 + 100 * i, 1250) for i in range(10)),
        left_out=(),
        answers=answers,
        samples=samples,
        thread_runs=(),
        operators=None,
        cold_starts=tuple(started(100 * cold, 100, memory=memory) for _ in range(5)),
        largest_starts=(started(300 * cold, 300, memory=largest),),
        instructions=(Instructions(way="slimscan", image="5.jpeg", first=700_000_000, more=1_450_000_000),),
        environment=HERE,
        environment_after=HERE,
    )


def verdicts(benchmark):
    return [held.verdict for held in benchmark.bounds]


def test_within_all_bounds():
    assert verdicts(planted()) == ["PASS"] * 5
    assert [held.value for held in planted().bounds] == [0.5, 1.0, 0.0, 1.2, 50.0]


@pytest.mark.parametrize(
    ("slow", "missed"),
    [
        ({"ours": 1.5}, [0, 1]),
        ({"plain": 1.4}, [0]),
        ({"floor": 0.8}, [1]),
        ({"wrong": 1}, [2]),
        ({"cold": 1.6}, [3]),
        ({"memory": 65.0}, [4]),
        ({"largest": 65.0}, [4]),
    ],
)
def test_planted_figures_beyond_a_bound_are_refused(slow, missed):
    assert [i for i, verdict in enumerate(verdicts(planted(**slow))) if verdict == "FAIL"] == missed


def test_what_was_not_measured_does_not_pass():
    alone = [dataclasses.replace(sample, others={}) for sample in planted().samples]
    bare = dataclasses.replace(planted(), samples=tuple(alone), cold_starts=(), largest_starts=())
    assert verdicts(bare) == ["INCONCLUSIVE"] * 5


def test_ratios_are_given_by_size_of_image():
    classes = planted().image_classes
    assert {name: len(images) for name, images in classes.items()} == {"all": 10, "large": 7, "small": 3}
    assert classes["small"] == (0, 1, 2)  # below a million pixels
    assert planted().ratio("plain", image_class="small").ours_p50_ms == 2.0
    assert planted().ratio("plain", clock="cpu").ours_p50_ms == 3 * planted().ratio("plain").ours_p50_ms


def test_the_report_and_the_record_tell_all_of_it():
    record = json.loads(json.dumps(planted(ours=1.5).to_table()))
    assert record["summary"]["ratios"]["plain"]["large"]["ratio"] == pytest.approx(0.75)
    assert record["summary"]["bounds"][0]["verdict"] == "FAIL"
    assert record["summary"]["bounds"][0]["why"]
    lines = planted(ours=1.5, wrong=3).to_lines()
    assert any("large (7 images)" in line and "0.750" in line for line in lines)
    assert any(line.endswith("FAIL") and "the plain way's" in line for line in lines)
    assert "  the same decision on 7 of 10 images" in lines
    assert lines[0].endswith("arena in TFLite Micro 408 bytes")
    assert any(line.split() == ["slimscan", "75.0", "M", "700.0", "M"] for line in lines)


@pytest.mark.parametrize(
    ("figures", "code", "words"),
    [
        ({}, 0, None),
        ({"ours": 1.5}, 1, "FAIL: p50 over the plain way's: at most 0.7 allowed, got 0.75, 0.05 too much"),
        ({"memory": 70.0}, 1, "got 70, 6 too much"),
    ],
)
def test_a_check_ends_with_what_it_found(monkeypatch, capsys, golden_bundle_path, figures, code, words):
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: planted(**figures))
    assert main(["bench", "--bundle", str(golden_bundle_path), "--check"]) == code
    complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("slimscan bench: ")]
    assert bool(complaints) == bool(words)
    assert words is None or words in "\n".join(complaints)


def test_a_check_that_cannot_tell_says_so(monkeypatch, capsys, golden_bundle_path):
    one_round = [sample for sample in planted().samples if sample.round == 0 and sample.image == 0]
    benchmark = dataclasses.replace(planted(), samples=tuple(one_round), images=planted().images[:1])
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: benchmark)
    assert main(["bench", "--bundle", str(golden_bundle_path), "--check"]) == 3
    assert "INCONCLUSIVE" in capsys.readouterr().err


def test_without_a_check_the_bounds_are_shown_but_do_not_decide(monkeypatch, capsys, golden_bundle_path):
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: planted(ours=1.5))
    assert main(["bench", "--bundle", str(golden_bundle_path), "--against", "plain"]) == 0
    assert "FAIL" in capsys.readouterr().out


def test_an_invalid_run_ends_with_its_own_exit_code_whatever_it_found(
    monkeypatch, capsys, golden_bundle_path, tmp_path
):
    throttled = dataclasses.replace(HERE, throttled_flags=0x40004)
    benchmark = dataclasses.replace(planted(ours=1.5), environment_after=throttled)
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: benchmark)
    out = tmp_path / "benchmark.json"
    for options in ([], ["--check"], ["--json"]):
        assert main(["bench", "--bundle", str(golden_bundle_path), "--out", str(out), *options]) == 3
        assert "INVALID: the board reports throttled now, after the measurement" in capsys.readouterr().err
        assert json.loads(out.read_text())["summary"]["valid"] is False


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_record_is_kept_where_nothing_can_be_printed(monkeypatch, golden_bundle_path, tmp_path, fill_stdout, options):
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: planted())
    out = tmp_path / "benchmark.json"
    fill_stdout()
    assert main(["bench", "--bundle", str(golden_bundle_path), "--out", str(out), *options]) == 4
    assert json.loads(out.read_text())["bundle_id"] == "b-1.0.0"


def test_a_record_is_printed_where_it_cannot_be_kept(monkeypatch, capsys, golden_bundle_path, tmp_path):
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: planted())
    (tmp_path / "taken").write_bytes(b"")
    out = tmp_path / "taken" / "benchmark.json"
    assert main(["bench", "--bundle", str(golden_bundle_path), "--out", str(out), "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["bundle_id"] == "b-1.0.0"
    assert "cannot be written" in said.err
