"""A run of peers with processes of this very environment: no package is fetched."""

import json
import sys
import zipfile
from pathlib import Path

import pytest

from slimscan_bench.peers import measuring
from slimscan_bench.peers.comparison import PeerComparison
from slimscan_bench.peers.environments import environment_python
from slimscan_bench.peers.measuring import PeersPlan, measure_peers, truth_by_folder
from slimscan_bench.peers.roster import PEERS, ROSTER, Peer, chosen
from slimscan_edge.errors import InputError, MachineError

BROKEN = """
import sys
sys.path.insert(0, {folder!r})
from protocol import serve
answered = 0
def answer(path, step):
    global answered
    answered += 1
    if answered > 4:
        raise RuntimeError("tired")
    return 3.0
serve(answer)
"""


@pytest.fixture
def measured(classifier, golden_bundle_path):
    def measure(images, names, **changed):
        plan = PeersPlan(
            command="slimscan peers",
            bundle_path=golden_bundle_path,
            names=names,
            **{
                "onnx": None,
                "mobile": None,
                "processes": 1,
                "warmup": 1,
                "repeats": 2,
                "cold_starts": 1,
                "scaling": False,
                **changed,
            },
        )
        return measure_peers(
            classifier, images, plan, python_of=lambda _: Path(sys.executable), progress=lambda *_: lambda _: None
        )

    return measure


@pytest.fixture
def unreliable(tmp_path, monkeypatch):
    """A peer that gives up in the second round."""
    script = tmp_path / "unreliable.py"
    script.write_text(BROKEN.format(folder=str(measuring.FOLDER)))
    peer = Peer(title="Unreliable", script=str(script), requirements="litert.txt", model="tflite", way="answers 3")
    monkeypatch.setattr(measuring, "ROSTER", {**ROSTER, "unreliable": peer})


def test_peers_are_started_anew_for_each_process(measured, level_images):
    record = measured(level_images, ("slimscan", "litert"), processes=2, warmup=0, repeats=1)
    assert record.processes == 2
    assert {run.wall_ms.shape for run in record.runs} == {(2, 3)}
    assert all(run.peak_memory_mib is None or run.peak_memory_mib > 1.0 for run in record.runs)
    low, high = record.ratio("litert").interval
    assert low <= record.ratio("litert").value <= high


def test_the_peers_answer_for_the_same_files_in_the_same_rounds(measured, level_images):
    record = measured(level_images, ("slimscan", "floor", "litert"), scaling=True)
    assert [run.name for run in record.runs] == ["slimscan", "floor", "litert"]
    assert [image.name for image in record.images] == ["20.jpeg", "240.jpeg", "230.jpeg"]
    assert record.truths == (False, True, True)
    for run in record.runs:
        assert run.wall_ms.shape == (2, 3)
        assert run.decisions == ("negative", "positive", "positive")
        assert len(run.starts) == 1
        assert 0 < run.starts[0].ready_ms < run.starts[0].first_answer_ms
        assert set(run.stages_us) == {"decode", "prepare", "invoke"}
        assert record.same_decisions(run.name) == 3
        assert record.auroc(run.name) == 1.0
    assert record.run("litert").versions["numpy"]
    assert record.macs == 1024  # 8 x 8 windows of 4 x 4 pixels
    assert {run.threads for run in record.thread_runs} >= {1}


def test_a_record_is_read_back_as_it_was(measured, level_images):
    record = measured(level_images, ("slimscan", "litert"))
    table = json.loads(json.dumps(record.to_table()))
    assert PeerComparison.from_table(table, where="it") == record
    with pytest.raises(InputError, match="it is no record of peers"):
        PeerComparison.from_table({**table, "schema_version": 99}, where="it")


def test_a_peer_that_fails_is_listed_and_the_others_go_on(measured, level_images, unreliable):
    record = measured(level_images, ("slimscan", "unreliable", "onnxruntime", "mediapipe"))
    assert [run.name for run in record.runs] == ["slimscan"]
    reasons = {failure.name: failure.reason for failure in record.failures}
    assert reasons["unreliable"] == "240.jpeg: RuntimeError: tired"
    assert "--onnx FILE" in reasons["onnxruntime"]
    assert "--mobile FILE" in reasons["mediapipe"]


def test_a_twin_of_another_model_is_refused(measured, level_images, tmp_path):
    twin = tmp_path / "twin.onnx"
    twin.write_bytes(b"no protobuf message")
    record = measured(level_images, ("slimscan", "onnxruntime"), onnx=twin, cold_starts=0)
    assert "twin.onnx is no ONNX file" in record.failures[0].reason
    pair = b"\x0a\x0apreprocess\x12\x02{}", b"\x0a\x0foperating_point\x12\x02{}"
    twin.write_bytes(b"".join(b"\x72" + bytes([len(entry)]) + entry for entry in pair))
    record = measured(level_images, ("slimscan", "onnxruntime"), onnx=twin, cold_starts=0)
    assert "another preprocessing" in record.failures[0].reason


def test_images_of_any_name_are_given_to_the_quantiser(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "FOLDER", tmp_path)
    stand_in = "import json, pathlib, sys\npathlib.Path(sys.argv[2]).write_text(json.dumps(json.load(sys.stdin)))"
    (tmp_path / "onnxruntime_quantise.py").write_text(stand_in)
    images = [tmp_path / name for name in ("plain.png", "r\udcf6ntgen.png", "two\nlines.png")]
    told = measuring._quantised(Path(sys.executable), tmp_path / "twin.onnx", {}, tmp_path, images)
    assert json.loads(told.read_text()) == [str(image) for image in images]


def test_a_mobile_twin_of_another_bundle_is_refused(measured, level_images, golden_bundle, tmp_path):
    twin = tmp_path / "twin.tflite"

    def reason():
        record = measured(level_images, ("slimscan", "mediapipe"), mobile=twin, cold_starts=0, repeats=1, warmup=0)
        return record.failures[0].reason

    twin.write_bytes(b"no twin")
    assert reason() == "twin.tflite is no mobile twin; make it with: slimscan export --mobile FILE"
    for digest, words in (("00", "the twin of b-1.0.0, another bundle"), (golden_bundle.sha256, "exit code")):
        with zipfile.ZipFile(twin, "w") as behind:
            behind.writestr("slimscan.json", json.dumps({"bundle": "b-1.0.0", "bundle_sha256": digest}))
        assert words in reason()  # the right digest gets as far as the script, which finds no MediaPipe here


def test_without_ours_there_is_nothing_to_compare(measured, level_images, monkeypatch):
    broken = Peer(title="slimscan", script="/no/such/script.py", requirements="", model="bundle", way="")
    monkeypatch.setattr(measuring, "ROSTER", {**ROSTER, "slimscan": broken})
    with pytest.raises(InputError, match="ours failed"):
        measured(level_images, ("slimscan", "floor"))


def test_who_takes_part_is_chosen_by_name():
    assert chosen([]) == tuple(ROSTER)
    assert chosen(["openvino"]) == ("slimscan", "floor", "openvino")
    with pytest.raises(InputError, match=f"no peer is called 'nobody'; known are {PEERS[0]}, "):
        chosen(["nobody"])


def test_every_peer_has_its_script_and_its_pinned_packages():
    for peer in ROSTER.values():
        assert (measuring.FOLDER / peer.script).is_file()
        pinned = (measuring.FOLDER / peer.requirements).read_text()
        assert pinned.count("==") <= pinned.count("--hash=sha256:")


def test_truth_comes_from_the_folder_or_not_at_all():
    labels = ("NORMAL", "PNEUMONIA")
    assert truth_by_folder(Path("a/normal/x.png"), labels) is False
    assert truth_by_folder(Path("a/PNEUMONIA/x.png"), labels) is True
    assert truth_by_folder(Path("a/other/x.png"), labels) is None


def test_an_environment_is_made_once_and_an_impossible_one_says_why(tmp_path):
    nothing = tmp_path / "nothing.txt"
    nothing.write_text("# no package at all\n")
    said: list[str] = []
    python = environment_python(nothing, cache=tmp_path / "cache", note=said.append)
    assert python.exists()
    assert environment_python(nothing, cache=tmp_path / "cache", note=said.append) == python
    assert len(said) == 1
    impossible = tmp_path / "impossible.txt"
    impossible.write_text("./no-such-wheel.whl --hash=sha256:00\n")
    with pytest.raises(MachineError, match=r"impossible\.txt cannot be installed: .") as caught:
        environment_python(impossible, cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert [folder.name.split("-")[0] for folder in (tmp_path / "cache" / "peers").iterdir()] == ["nothing"]
