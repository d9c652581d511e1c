import json

from slimscan_edge import locate
from slimscan_edge.cli import main


def test_a_ready_machine(golden_bundle_path, capsys):
    assert main(["doctor", "--bundle", str(golden_bundle_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "ready"
    assert "ok       self-test      3 golden images, 0 steps off at most (1 allowed)" in lines


def test_a_problem_is_exit_code_4_and_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locate, "REFERENCE_FOLDER", tmp_path)
    assert main(["doctor"]) == 4
    said = capsys.readouterr().out
    assert "problem  bundle" in said
    assert "say which bundle with --bundle PATH" in said
    assert said.endswith("\nnot ready: 1 problem above\n")


def test_json_is_one_object(golden_bundle_path, tmp_path, capsys):
    assert main(["doctor", "--json", "--bundle", str(golden_bundle_path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ready"] is True
    assert {frozenset(check) for check in answer["checks"]} == {frozenset({"name", "status", "detail"})}
    assert main(["doctor", "--json", "--bundle", str(tmp_path / "absent.slimscan")]) == 4
    assert json.loads(capsys.readouterr().out)["ready"] is False
