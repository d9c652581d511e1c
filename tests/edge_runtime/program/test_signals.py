"""A stopped command unwinds, says so in one line, and its process ends by the signal."""

import signal
import subprocess
import sys

import pytest

WAITING = "print('begun', flush=True); time.sleep(60)"
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def stopped(tmp_path, body, number, *, before=""):
    """Run a command's text until it says that it has begun, send a signal, and return how it ended."""
    lines = "".join(f"        {line}\n" for line in body.split("\n"))
    program = (
        "import signal, sys, time\nfrom pathlib import Path\nfrom slimscan_edge import cli\n"
        f"class Command:\n    def add_arguments(parser): pass\n    def run(arguments):\n{lines}        return 0\n"
        f"{before}\ncli.import_module = lambda name: Command\nsys.argv = ['slimscan', 'predict']\nsys.exit(cli.main())"
    )
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        said, complained = process.communicate()
    return process.returncode, said, complained


@pytest.mark.parametrize("number", SIGNALS)
def test_the_process_ends_by_the_signal_after_it_has_unwound(tmp_path, number):
    body = f"try: {WAITING}\nfinally: Path('unwound').touch()"
    assert stopped(tmp_path, body, number) == (-number, "", "slimscan predict: stopped\n")
    assert (tmp_path / "unwound").exists()


@pytest.mark.parametrize("raised", ["ImportError('numpy does not load')", "SystemError('x')", "ValueError('x')"])
def test_an_interruption_that_native_code_turns_into_something_else_is_one(tmp_path, raised):
    body = f"try: {WAITING}\nexcept KeyboardInterrupt: raise {raised}"
    assert stopped(tmp_path, body, signal.SIGINT) == (-signal.SIGINT, "", "slimscan predict: stopped\n")


def test_an_interruption_that_is_swallowed_still_ends_the_process_by_the_signal(tmp_path):
    body = f"try: {WAITING}\nexcept KeyboardInterrupt: print('an answer')"
    assert stopped(tmp_path, body, signal.SIGINT) == (-signal.SIGINT, "an answer\n", "")


def test_one_in_a_place_that_cannot_raise_leaves_no_traceback(tmp_path):
    body = (
        "class Late:\n    def __del__(self):\n        print('begun', flush=True)\n        time.sleep(60)\n"
        "late = Late()\ndel late\nprint('an answer')"
    )
    assert stopped(tmp_path, body, signal.SIGINT) == (-signal.SIGINT, "an answer\n", "")


def test_an_exit_after_an_interruption_is_the_signal_s(tmp_path):
    body = f"try: {WAITING}\nexcept KeyboardInterrupt: sys.exit(0)"
    assert stopped(tmp_path, body, signal.SIGINT) == (-signal.SIGINT, "", "")


def test_a_second_signal_ends_it_at_once(tmp_path):
    body = f"try: {WAITING}\nfinally:\n    import os\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(60)"
    code, _, complained = stopped(tmp_path, body, signal.SIGINT)
    assert (code, complained) == (-signal.SIGINT, "")


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    body = "print('begun', flush=True)\ntime.sleep(1)\nprint('an answer')"
    ended = stopped(tmp_path, body, signal.SIGINT, before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert ended == (0, "an answer\n", "")


def test_a_command_inside_another_stops_both(tmp_path):
    inner = "import slimscan_edge.cli as cli\nif not Path('inner').exists():\n    Path('inner').touch()\n"
    body = f"{inner}    return cli.main(['doctor'])\n{WAITING}"
    assert stopped(tmp_path, body, signal.SIGTERM) == (-signal.SIGTERM, "", "slimscan doctor: stopped\n")


def test_in_a_program_of_somebody_else_s_it_is_an_exit_code(monkeypatch, capsys):
    from slimscan_edge import cli

    def interrupted(*_):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(cli, "_run", interrupted)
    assert cli.main(["predict"]) == 130
    assert capsys.readouterr().err == "slimscan predict: stopped\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_while_the_program_loads_it_ends_without_a_traceback(tmp_path):
    (tmp_path / "slimscan_edge_waits.py").write_text(
        "import importlib.abc, os, signal, sys, time\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'slimscan_edge.cli': os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
        "sys.meta_path.insert(0, Finder())\nimport runpy\nrunpy.run_module('slimscan_edge', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, str(tmp_path / "slimscan_edge_waits.py")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
