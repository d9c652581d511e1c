"""The builder of ARM machines, as far as it goes without building one."""

import dataclasses

import pytest
from build_root import MACHINES, build, describe_processor, is_ready, main, pinned_wheels

from slimscan_edge.errors import MachineError

BY_NAME = {machine.name: machine for machine in MACHINES}


def names(machine):
    return {line.split("==")[0]: line.split("==")[1].split(" ")[0] for line in pinned_wheels(machine)}


def test_wheels_are_chosen_by_the_machine_and_not_by_this_one():
    assert set(names(BY_NAME["bookworm-armhf"])) == {"tflite-runtime"}
    older, newer = names(BY_NAME["bookworm-arm64"]), names(BY_NAME["trixie-arm64"])
    assert {"ai-edge-litert", "numpy", "pillow"} <= set(older)
    assert "tflite-runtime" not in older
    assert {name for name in older if older[name] != newer[name]} == {"numpy"}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_wheel_is_pinned_by_hash(machine):
    assert all(" --hash=sha256:" in line and ";" not in line for line in pinned_wheels(machine))


def test_a_root_has_a_name_of_its_own_for_all_that_it_is_made_of():
    machine = MACHINES[0]
    roots = {dataclasses.replace(machine, **change).root for change in ({}, {"packages": ("python3", "file")})}
    assert len(roots | {other.root for other in MACHINES}) == len(MACHINES) + 1


def test_nothing_is_left_of_a_machine_that_could_not_be_built(monkeypatch, tmp_path):
    monkeypatch.setenv("SLIMSCAN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MachineError):
        build(MACHINES[0], (tmp_path / "no-archive").as_uri())
    assert not is_ready(MACHINES[0])
    assert list(MACHINES[0].root.parent.iterdir()) == []


def test_four_cores_of_a_raspberry_pi_are_described(tmp_path):
    (tmp_path / "proc").mkdir()
    describe_processor(MACHINES[0], tmp_path)
    cores = (tmp_path / "proc" / "cpuinfo").read_text().split("\n\n")[:4]
    fields = [dict(map(str.strip, line.split(":")) for line in core.splitlines()) for core in cores]
    assert [core["processor"] for core in fields] == ["0", "1", "2", "3"]
    assert {core["CPU part"] for core in fields} == {"0xd08"}
    assert (tmp_path / "sys/devices/system/cpu/present").read_text() == "0-3\n"


def test_an_unknown_machine_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["sid-riscv64"])
    said = capsys.readouterr().err
    assert "sid-riscv64" in said
    assert "bookworm-arm64" in said


def test_a_machine_that_cannot_be_built_is_told_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SLIMSCAN_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["bookworm-arm64"]) == 4
    said = capsys.readouterr().err
    assert "no ARM machine can be built" in said
    assert said.count("\n") == 1
