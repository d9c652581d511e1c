"""Measuring on another machine: this one, over a real OpenSSH server on the loopback."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slimscan_bench.remote import Remote, measure_there
from slimscan_edge.cli import main
from slimscan_edge.errors import InputError, MachineError

SSHD = shutil.which("sshd", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))
NOT_STARTED = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None,
    reason="no SSH server and client are installed; run as root: apt-get install openssh-server openssh-client",
)
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
SetEnv TMPDIR="{folder}/far away"
"""
CLIENT = """\
Host clinic
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
"""


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    """A folder in which a server keeps all, what its temporary files are in among it; `ssh_config` reaches it."""
    # Not below a folder with brackets or spaces: sshd's own configuration cannot quote them.
    folder = tmp_path_factory.mktemp("sshd")
    (folder / "far away").mkdir()
    for name in ("host_key", "user_key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = {"folder": folder, "port": port, "user": getpass.getuser()}
    (folder / "sshd_config").write_text(SERVER.format(**known))
    (folder / "ssh_config").write_text(CLIENT.format(**known))
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where a server that root starts locks itself in
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stdout=log, stderr=log)
    try:
        _wait_for(port, server, folder / "log")
        yield folder
    finally:
        server.terminate()
        server.wait()


def _wait_for(port, server, log):
    for _ in range(600):
        if server.poll() is not None:
            pytest.fail(f"sshd does not start: {log.read_text()}")
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"sshd does not listen: {log.read_text()}")


@pytest.fixture
def ssh(far):
    """The client, and what the server's temporary files are in."""
    return ("ssh", "-F", str(far / "ssh_config"))


@pytest.fixture
def left_behind(far):
    return lambda: list((far / "far away").iterdir())


def program(folder, body):
    """A program that stands for slimscan there."""
    path = folder / "its slimscan"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


SLIMSCAN = f"exec '{sys.executable}' -c 'import sys; from slimscan_edge.cli import main; sys.exit(main())' \"$@\""


@NOT_STARTED
@pytest.mark.slow
def test_command_measures_there_and_reports_here(far, left_behind, tmp_path, golden_bundle_path, capsys):
    bundle = tmp_path / 'a bundle\'s "name" $HOME.slimscan'
    shutil.copy(golden_bundle_path, bundle)
    names = ["grey one.png", "it's `two`.png", '"three" $(touch x);&.png', "--four*.png", "line\nfive é.png"]
    images = [tmp_path / "images" / name for name in names]
    images[0].parent.mkdir()
    for level, image in enumerate(images):
        Image.fromarray(np.full((90, 120), 100 + level, np.uint8)).save(image)
    again = tmp_path / "again" / names[0]
    again.parent.mkdir()
    Image.fromarray(np.full((50, 60), 30, np.uint8)).save(again)
    out = tmp_path / "record.json"
    code = main(
        [
            *["bench", "--plan", "ssh", "clinic", "--ssh", f"ssh -F '{far}/ssh_config'"],
            *["--remote-program", program(tmp_path, SLIMSCAN), "--bundle", str(bundle), "--out", str(out)],
            *["--processes", "2", "--repeats", "1", "--warmup", "0", "--cold-starts", "0", "--threads", "1"],
            *["--", *map(str, images)],
            str(again),
        ]
    )
    table, record = capsys.readouterr().out, json.loads(out.read_text())
    assert code == 0
    assert [image["name"] for image in record["images"]] == [*names, names[0]]
    assert [image["width"] for image in record["images"]] == [120] * 5 + [60]
    assert record["bundle_id"] == "brightness-1.0.0"
    assert len(record["samples"]) == 12
    assert "brightness-1.0.0" in table
    assert left_behind() == []


@NOT_STARTED
@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("exit 2", InputError, "ended with exit code 2 on clinic"),
        ("exit 4", MachineError, "ended with exit code 4 on clinic"),
        ("kill -9 $$", MachineError, "ended with exit code 137 on clinic"),
        ("echo hello", MachineError, "printed no record"),
        ("exit 127", MachineError, "--remote-program"),
    ],
)
def test_nothing_is_left_behind_after_a_failure(ssh, left_behind, tmp_path, golden_bundle_path, body, error, message):
    remote = Remote(host="clinic", ssh=ssh, program=program(tmp_path, body))
    with pytest.raises(error, match=message):
        measure_there(remote, golden_bundle_path, (), ())
    assert left_behind() == []


@NOT_STARTED
def test_a_file_that_vanishes_is_named_and_nothing_is_left_behind(ssh, left_behind, tmp_path, golden_bundle_path):
    with pytest.raises(InputError, match=r"absent\.png cannot be read"):
        measure_there(Remote(host="clinic", ssh=ssh), golden_bundle_path, [tmp_path / "absent.png"], ())
    assert left_behind() == []


@NOT_STARTED
def test_the_exit_code_of_a_gate_there_is_the_one_here(ssh, left_behind, tmp_path, golden_bundle_path):
    for code in (0, 1, 3):
        remote = Remote(host="clinic", ssh=ssh, program=program(tmp_path, f"echo '{{\"a\": 1}}'; exit {code}"))
        answer = measure_there(remote, golden_bundle_path, (), ("--check",))
        assert (answer.table, answer.exit_code) == ({"a": 1}, code)
    assert left_behind() == []


@NOT_STARTED
def test_a_record_of_another_version_is_refused(far, tmp_path, golden_bundle_path, capsys):
    there = program(tmp_path, "echo '{\"schema_version\": 1}'")
    words = ["--plan", "ssh", "clinic", "--ssh", f"ssh -F '{far}/ssh_config'", "--remote-program", there]
    assert main(["bench", "--bundle", str(golden_bundle_path), *words]) == 2
    assert "clinic is no record of slimscan bench of version" in capsys.readouterr().err


@pytest.mark.skipif(
    shutil.which("ssh") is None, reason="no SSH client is installed; run as root: apt-get install openssh-client"
)
def test_a_host_that_is_not_reached_is_an_error(golden_bundle_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--plan", "ssh", "127.0.0.1", "--ssh", f"ssh -F none -p {port} -o BatchMode=yes"]
    assert main(["bench", "--bundle", str(golden_bundle_path), *words]) == 4
    assert "127.0.0.1" in capsys.readouterr().err


def test_without_a_client_it_says_what_to_do(golden_bundle_path, capsys):
    words = ["--plan", "ssh", "clinic", "--ssh", "no-such-client"]
    assert main(["bench", "--bundle", str(golden_bundle_path), *words]) == 4
    assert "install an SSH client" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--plan", "telnet", "clinic"],
        ["--plan", "ssh", ""],
        ["--plan", "ssh", "clinic", "--training"],
        ["--plan", "ssh", "clinic", "--clock", "wall"],
        ["--plan", "ssh", "clinic", "--recipe", "demo"],
        ["--plan", "ssh", "clinic", "--set", "fit.batch=4"],
        ["--plan", "ssh", "clinic", "--steps", "7"],
        ["--remote-program", "x"],
        ["--ssh", "x"],
    ],
)
def test_options_that_do_not_go_together_are_refused(words, golden_bundle_path, capsys):
    assert main(["bench", "--bundle", str(golden_bundle_path), *words]) == 2
    assert capsys.readouterr().err.startswith("slimscan bench: ")


def test_a_host_cannot_be_an_option():
    with pytest.raises(InputError, match="expected HOST"):
        Remote(host="-oProxyCommand=touch x")


GREETING = r"""#!/bin/sh
for command; do :; done
echo 'Welcome to the clinic!  {"a": "b"}'
printf 'no end of line'
sh -c "$command"
code=$?
echo 'Goodbye.'
exit $code
"""


@pytest.fixture
def greeting(tmp_path, monkeypatch):
    """An SSH client that reaches this machine, through a shell that greets on standard output."""
    (tmp_path / "far away").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "far away"))
    client = tmp_path / "greeting ssh"
    client.write_text(GREETING)
    client.chmod(0o755)
    return (str(client),)


def test_a_shell_that_greets_is_understood(greeting, tmp_path, golden_bundle_path):
    said = program(tmp_path, 'printf \'{"kind": "a record"}\\n\'; exit 3')
    answer = measure_there(Remote(host="h", ssh=greeting, program=said), golden_bundle_path, (), ())
    assert (answer.table, answer.exit_code) == ({"kind": "a record"}, 3)
    assert list((tmp_path / "far away").iterdir()) == []


@pytest.mark.parametrize("body", ["exit 0", "echo nothing that is a record", "echo '{'"])
def test_no_record_behind_a_greeting_is_told(greeting, tmp_path, golden_bundle_path, body):
    remote = Remote(host="h", ssh=greeting, program=program(tmp_path, body))
    with pytest.raises(MachineError, match="h printed no record"):
        measure_there(remote, golden_bundle_path, (), ())
    assert list((tmp_path / "far away").iterdir()) == []
