"""The benchmark report's page, read as a browser's parser reads it, from planted records."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from slimscan_bench.report.ladder import read_ladder
from slimscan_bench.report.page import read_any_record, write_report
from slimscan_bench.scaling import ThreadRun
from slimscan_edge.cli import main
from slimscan_edge.errors import InputError

LADDER = {
    "schema_version": 1,
    "rows": [
        {
            "name": "int8",
            "size_bytes": 250_000,
            "answers": [{"split": "val", "auroc": 0.99}, {"split": "val_shift", "auroc": None}],
        }
    ],
}


class Page(HTMLParser):
    """Elements with their attributes, the text, and each table as rows of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "th" in self._open or "td" in self._open:
            small = "small" in self._open
            self.tables[-1][-1][-1] += f" [{data.strip()}]" if small else data.strip()

    def table(self, first: str) -> list[list[str]]:
        """The table whose first heading is this."""
        return next(table for table in self.tables if table[0][0] == first)

    def figures(self) -> list[str]:
        return [str(attributes["aria-label"]) for tag, attributes in self.elements if tag == "svg"]


@pytest.fixture
def page_of(tmp_path):
    def written(record, **options) -> Page:
        path = tmp_path / "report.html"
        write_report(record, path, **options)
        return Page(path.read_text())

    return written


@pytest.fixture
def ladder_path(tmp_path) -> Path:
    path = tmp_path / "ladder.json"
    path.write_text(json.dumps(LADDER))
    return path


def test_the_page_refers_to_nothing_outside_itself(planted, page_of, ladder_path, tmp_path):
    page_of(planted(), ladder=read_ladder(ladder_path))
    html = (tmp_path / "report.html").read_text()
    assert "http" not in html
    assert "<script" not in html
    assert not re.search(r'(src|href)="(?!#|data:)', html)


def test_the_tables_hold_the_planted_figures(planted, page_of):
    page = page_of(planted())
    latency = page.table("Way")
    assert [row[0] for row in latency[1:]] == ["1. slimscan", "2. floor", "3. LiteRT script", "4. TensorFlow"]
    assert latency[1][1].startswith("5.50")
    assert latency[3][4].startswith("0.50")
    aims = page.table("Aim")
    assert [row[3] for row in aims[1:]] == ["PASS"] * 6
    assert "(LiteRT script)" in aims[1][0]
    assert aims[1][1:3] == ["0.5", "0.667"]
    start = next(table for table in page.tables if "first answer, ms" in table[0])
    assert start[4] == ["TensorFlow", "2000", "600.0"]
    accuracy = next(table for table in page.tables if "same decision" in table[0])
    assert accuracy[3][1:2] == ["10 of 10"]
    assert accuracy[3][2].startswith("1.0000")


def test_a_bar_several_times_as_long_as_all_others_is_cut_off_and_says_so(planted, page_of):
    assert "→" not in page_of(planted()).text
    assert "→ 110" in page_of(planted(litert={"ms": 20.0, "start_ms": 120.0, "memory": 55.0})).text


def test_a_missed_aim_says_by_what_and_why(planted, page_of):
    page = page_of(planted(litert={"ms": 1.4, "start_ms": 120.0, "memory": 40.0}))
    aims = {row[0].split(" [")[0]: row for row in page.table("Aim")[1:]}
    missed = aims["file to finding over the fastest peer's (LiteRT script)"]
    assert missed[3] == "FAIL"
    assert "slimscan 5.50 ms (decode 2.75, rest 2.75); LiteRT script 7.70 ms (decode 3.85, rest 3.85)" in missed[0]
    assert "slimscan 50.0 MiB; LiteRT script 40.0 MiB" in page.text


def test_who_failed_is_named_with_the_reason_as_text(planted, page_of):
    page = page_of(planted())
    assert "OpenVINO: no <wheel> can be had" in page.text
    assert "wheel" not in [tag for tag, _ in page.elements]


def test_who_decides_otherwise_is_marked(planted, page_of):
    page = page_of(planted(litert={"ms": 0.1, "start_ms": 120.0, "memory": 55.0, "wrong": 3}))
    names = [row[0] for row in page.table("Way")[1:]]
    assert "3. LiteRT script [decides otherwise]" in names
    assert names[1] == "2. floor"
    assert "the fastest other way that decides\nas it does is TensorFlow" in page.text


def test_figures_are_there_as_far_as_the_record_goes(planted, page_of, ladder_path):
    record = planted()
    everything = dataclasses.replace(
        record,
        thread_runs=tuple(
            ThreadRun(threads=threads, round=0, total_ms=(4.0,) * 10, invoke_ms=(1.0,) * 10, batch_seconds=0.02)
            for threads in (1, 2)
        ),
    )
    assert page_of(everything, ladder=read_ladder(ladder_path)).figures() == [
        "Distribution of latency, one row a way",
        "Stages of each way's median",
        "Latency of each image against its size",
        "Images a second by number of threads",
        "Time to first answer of fresh processes",
        "Peak memory of each way",
        "AUROC against latency of every way",
        "AUROC against size of the model",
    ]
    runs = tuple(dataclasses.replace(run, starts=(), peak_memory_mib=None) for run in record.runs)
    bare = page_of(dataclasses.replace(record, runs=runs, truths=(None,) * 10))
    assert bare.figures() == [
        "Distribution of latency, one row a way",
        "Stages of each way's median",
        "Latency of each image against its size",
    ]
    assert [row[3] for row in bare.table("Aim")[1:]] == ["PASS", "PASS", *["INCONCLUSIVE"] * 4]


def test_the_boards_limit_is_there(planted, page_of):
    boards = page_of(planted()).table("Board")
    assert boards[1][0].startswith("Raspberry Pi Zero 2 W")
    assert boards[1][4] == "1.34"  # 43 million over 4 cores of 1 GHz at 8 a cycle


def test_a_thinned_record_gives_the_same_tables(planted, page_of):
    record = planted()
    thinned = record.thinned()
    assert page_of(thinned).tables == page_of(record).tables
    assert len(json.dumps(thinned.to_table())) < len(json.dumps(record.to_table()))
    assert all(len(run.cpu_us) == 1 for run in thinned.runs)
    assert thinned.ours.wall_us == record.ours.wall_us


@pytest.fixture(scope="module")
def device_record(tmp_path_factory, golden_bundle_path) -> Path:
    """What a device writes: drawn images, ours beside the plain way and the floor, every number of threads."""
    path = tmp_path_factory.mktemp("device") / "benchmark.json"
    words = ["--against", "plain", "--against", "floor", "--processes", "2", "--repeats", "1", "--warmup", "0"]
    words += ["--scaling", "--operators"]
    code = main(["bench", "--bundle", str(golden_bundle_path), *words, "--cold-starts", "1", "--out", str(path)])
    assert code in (0, 3)  # 3: the machine was restless, which is no concern of this test
    return path


def test_a_devices_record_becomes_a_page(device_record, tmp_path, capsys):
    assert main(["report", str(device_record), "--out", str(tmp_path / "device.html")]) == 0
    page = Page((tmp_path / "device.html").read_text())
    table = json.loads(device_record.read_text())
    assert [row[0] for row in page.table("Way")[1:]] == ["1. slimscan", "2. plain", "3. floor"]
    ours = sorted(sample["taken"]["wall_ms"] for sample in table["samples"])
    assert page.table("Way")[1][1].startswith(f"{(ours[2] + ours[3]) / 2:.2f}")
    assert "drawn for the measurement" in page.text
    assert "All ways ran in the same processes" in page.text
    assert "MediaPipe" not in page.text
    assert len(page.table("Operator")) == 1 + len(table["operators"]["operators"]) > 2
    assert "Operators of the network." in page.text
    assert table["environment"]["kernel"] in page.text


def test_a_way_that_decides_otherwise_is_no_measure_on_a_devices_page(device_record, page_of):
    record = read_any_record(device_record)
    others = {"positive": "negative", "negative": "positive", "refer": "positive"}
    answers = tuple(
        dataclasses.replace(answer, other_decisions={**answer.other_decisions, "plain": others[answer.decision]})
        for answer in record.answers
    )
    assert "the fastest other way" in page_of(record).text
    page = page_of(dataclasses.replace(record, answers=answers))
    assert "the fastest other way" not in page.text
    assert page.table("Way")[2][0] == "2. plain [decides otherwise]"


def test_a_record_in_which_a_round_is_not_whole_is_refused(device_record, tmp_path):
    record = read_any_record(device_record)
    alone = tuple(dataclasses.replace(sample, others={}) for sample in record.samples)
    with pytest.raises(InputError, match="not measured in every round"):
        write_report(dataclasses.replace(record, samples=alone[:-1]), tmp_path / "report.html")


def test_a_name_that_is_not_utf8_is_shown_escaped(planted, page_of):
    page = page_of(dataclasses.replace(planted(), left_out=("r\udcf6ntgen.jpeg",)))
    assert r"r\udcf6ntgen.jpeg" in page.text


def test_a_run_is_published_thinned(planted, tmp_path, capsys):
    source, target = tmp_path / "peers.json", tmp_path / "published.json"
    source.write_text(json.dumps(planted().to_table()))
    out = ["--out", str(tmp_path / "r.html")]
    assert main(["report", str(source), *out, "--publish", str(target)]) == 0
    assert read_any_record(target) == planted().thinned()


def test_only_a_run_of_peers_is_published(device_record, tmp_path, capsys):
    words = ["--out", str(tmp_path / "r.html"), "--publish", str(tmp_path / "p.json")]
    assert main(["report", str(device_record), *words]) == 2
    assert "--publish thins a run of peers" in capsys.readouterr().err
    assert not (tmp_path / "p.json").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no JSON file"),
        ("[]", "is no record of slimscan peers or slimscan bench --out"),
        ('{"samples": [], "schema_version": 1}', "is a benchmark of schema version 1, expected"),
        ('{"kind": "slimscan peers", "schema_version": 9}', "is no record of peers of schema version"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, content, words):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_any_record(path)
    with pytest.raises(InputError, match=r"absent\.json cannot be read"):
        read_any_record(tmp_path / "absent.json")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema_version": 1, "rows": [{"name": "x"}]}'])
def test_what_is_no_ladder_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"x\.json is no ladder\.json"):
        read_ladder(path)


def test_a_ladder_of_another_version_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**LADDER, "schema_version": 99}))
    with pytest.raises(InputError, match=r"x\.json is a ladder of schema version 99, expected 1"):
        read_ladder(path)
