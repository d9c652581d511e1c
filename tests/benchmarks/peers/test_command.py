"""`slimscan peers` from the command line, and a real environment where a package index is reached."""

import json
import sys
from pathlib import Path

import pytest

from slimscan_bench.commands import peers as command
from slimscan_bench.peers import environments
from slimscan_bench.peers.environments import environment_python
from slimscan_bench.peers.measuring import job_of
from slimscan_bench.peers.process import PeerProcess
from slimscan_bench.peers.roster import FOLDER
from slimscan_bench.report.page import read_any_record
from slimscan_edge.cli import main
from slimscan_edge.errors import MachineError
from slimscan_train.pixels import cache_folder

QUICK = ["--processes", "1", "--repeats", "1", "--warmup", "0", "--cold-starts", "1"]


def test_one_command_measures_and_writes_record_and_page(
    monkeypatch, capsys, golden_bundle_path, level_images, tmp_path
):
    # No package is fetched in this test: the script of the peer runs in this environment.
    monkeypatch.setattr(environments, "environment_python", lambda *_, **__: Path(sys.executable))
    out = tmp_path / "result"
    images = str(tmp_path)
    words = [images, "--out", str(out), "--bundle", str(golden_bundle_path), "--only", "litert", "openvino", *QUICK]
    assert main(["peers", *words]) == 0
    said = capsys.readouterr()
    assert "LiteRT script" in said.out
    assert "OpenVINO" in said.out
    assert "failed: it needs a twin of the model" in said.out
    record = read_any_record(out / "peers.json")
    assert [run.name for run in record.runs] == ["slimscan", "floor", "litert"]
    assert "LiteRT script" in (out / "report.html").read_text()
    published = json.dumps(record.to_table())
    assert str(tmp_path) not in published
    assert "--only litert openvino" in record.command


def test_record_and_page_are_kept_where_nothing_can_be_printed(monkeypatch, planted, tmp_path, fill_stdout):
    monkeypatch.setattr(command, "_measure", lambda _: planted())
    fill_stdout()
    assert main(["peers", str(tmp_path), "--out", str(tmp_path / "result")]) == 4
    assert read_any_record(tmp_path / "result" / "peers.json") == planted()
    assert (tmp_path / "result" / "report.html").exists()


def test_an_unknown_peer_is_refused_before_the_work(capsys, tmp_path):
    assert main(["peers", str(tmp_path), "--out", str(tmp_path / "r"), "--only", "nobody"]) == 2
    assert "no peer is called 'nobody'" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_the_plain_script_answers_in_its_own_environment(classifier, level_images, tmp_path):
    try:
        python = environment_python(FOLDER / "litert.txt", cache=cache_folder())
    except MachineError as exc:
        pytest.skip(f"no environment can be made here: {exc}")
    model = tmp_path / "model.tflite"
    model.write_bytes(classifier.bundle.model)
    job = json.dumps({**job_of(classifier), "model": str(model)})
    with PeerProcess((str(python), str(FOLDER / "litert.py"), job)) as peer:
        logits = [peer.ask(path).value for path in level_images]
    assert [logit > 0 for logit in logits] == [False, True, True]
    assert logits[0] == pytest.approx(classifier.predict(level_images[0]).logit, abs=0.07)  # one step of its integers
