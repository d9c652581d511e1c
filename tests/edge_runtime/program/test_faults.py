"""What ends a command is told in one line, with an exit code that is documented."""

import errno
import json
import os
import subprocess
import sys
import tempfile
import types

import pytest

from slimscan_edge import cli
from slimscan_edge.cli import COMMANDS, main
from slimscan_edge.errors import BundleError, MachineError
from slimscan_edge.program.faults import LEAST_DATA_BYTES, TRACEBACK, one_line


@pytest.fixture
def raising(monkeypatch):
    """Have whichever command raise an exception when it is run."""

    def made(exc):
        def run(_):
            raise exc

        command = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)
        monkeypatch.setattr(cli, "import_module", lambda name: command)

    return made


@pytest.mark.parametrize("name", COMMANDS)
def test_a_fault_of_ours_has_a_code_of_its_own_in_every_command(raising, capsys, name):
    raising(ZeroDivisionError("division by zero"))
    assert main([name]) == 70
    said = capsys.readouterr().err
    assert said.startswith(f"slimscan {name}: this is a fault of slimscan: ZeroDivisionError at test_faults.py:")
    assert "please report it" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "exc",
    [
        KeyError("a"),
        TypeError("Object of type PosixPath is not JSON serializable"),
        RecursionError("maximum recursion depth exceeded"),
        OverflowError("int too large to convert to float"),
        RuntimeError("of another kind"),
        AssertionError(),
        UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        ValueError("two\nlines \x1b[31m"),
    ],
)
def test_what_main_does_not_know_is_a_fault_in_one_line(raising, capsys, exc):
    raising(exc)
    assert main(["predict"]) == 70
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert type(exc).__name__ in said


@pytest.mark.parametrize(
    ("exc", "word"),
    [
        (MemoryError(), "more memory"),
        (RuntimeError("can't start new thread"), "no thread"),
        (ImportError("libopenblas.so.0: cannot open", name="numpy"), "numpy does not load"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "/tmp/x: No space left"),
        (OSError(errno.EFBIG, "File too large"), "File too large"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "unavailable"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "No usable temporary"),
        (MachineError("no bundle"), "no bundle"),
    ],
)
def test_what_the_machine_lacks_is_no_fault(raising, capsys, exc, word):
    raising(exc)
    assert main(["predict"]) == 4
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert word in said


def test_the_traceback_is_printed_where_it_is_asked_for(raising, capsys, monkeypatch):
    raising(ZeroDivisionError())
    monkeypatch.setenv(TRACEBACK, "1")
    assert main(["predict"]) == 70
    first, *rest = capsys.readouterr().err.splitlines()
    assert TRACEBACK in first
    assert rest[0] == "Traceback (most recent call last):"


def test_an_error_of_ours_may_list_things_below_it_and_nothing_else(raising, capsys):
    raising(BundleError("two cannot be read:\n  a\x1b[2Jb\n  c\nd"))
    assert main(["predict"]) == 2
    assert capsys.readouterr().err == "slimscan predict: two cannot be read:\n  a\\x1b[2Jb\n  c\\nd\n"


def test_no_temporary_folder_is_what_the_machine_lacks(command_in, tmp_path):
    """As when TMPDIR and all that stands in for it are full: Python writes a file into each before it takes one."""
    program = "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/proc/nowhere']\ntempfile.TemporaryFile()"
    done = command_in(program)
    assert done.returncode == 4
    assert "No usable temporary directory" in done.stderr
    assert tempfile.gettempdir()


@pytest.fixture
def command_in():
    """Run a program's text as the command `predict` in a process of its own."""

    def ran(body, **options):
        lines = "".join(f"        {line}\n" for line in body.split("\n"))
        program = (
            "import sys, types\nfrom slimscan_edge import cli\n"
            f"class Command:\n    def add_arguments(parser): pass\n    def run(arguments):\n{lines}        return 0\n"
            "cli.import_module = lambda name: Command\nsys.argv = ['slimscan', 'predict']\nsys.exit(cli.main())"
        )
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, **options)

    return ran


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_too_little_memory_is_told_before_a_library_ends_the_process(golden_bundle_path, xrays):
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (LEAST_DATA_BYTES - 1, LEAST_DATA_BYTES - 1))

    words = [sys.executable, "-m", "slimscan_edge", "predict", str(xrays), "--bundle", str(golden_bundle_path)]
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=limit)
    assert (done.returncode, done.stdout) == (4, "")
    assert (
        done.stderr == "slimscan predict: this process may allocate 96 MiB, and needs 96; raise the limit (ulimit -d)\n"
    )


@pytest.mark.parametrize("threads", ["0", "257", "100000", "3000000000", "1" * 5000, "²", "1.0", "-1", "\x1b[31m"])
def test_a_number_of_threads_that_no_machine_has_is_bad_usage(capsys, threads):
    with pytest.raises(SystemExit) as stopped:
        main(["predict", "x", f"--threads={threads}"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "expected a whole number from 1 to 256" in said
    assert "\x1b" not in said


def test_a_path_among_the_module_paths_does_not_matter(golden_bundle_path, xrays):
    program = (
        "import sys, pathlib; sys.path.append(pathlib.Path('.')); sys.path.append(None); "
        "from slimscan_edge.cli import main; sys.exit(main())"
    )
    words = ["predict", str(xrays), "--bundle", str(golden_bundle_path), "--isolate", "--json"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["decision"] for line in done.stdout.splitlines()] == ["positive", "negative"]


@pytest.mark.parametrize(
    "refused",
    [
        "threading._start_new_thread",
        "os.posix_spawnp",
        "os.memfd_create",
    ],
)
def test_answers_come_without_threads_and_other_helpers(golden_bundle_path, xrays, refused):
    place, name = refused.split(".")
    if not hasattr({"os": os, "threading": __import__("threading")}[place], name):
        pytest.skip(f"{refused} is not on this system")
    error = "RuntimeError" if place == "threading" else "OSError"
    program = (
        f'import os, sys, threading\ndef refuse(*_, **__): raise {error}("can\'t start new thread")\n'
        f"{refused} = refuse\n"
        "from slimscan_edge.cli import main\nsys.exit(main())"
    )
    words = ["predict", str(xrays), "--bundle", str(golden_bundle_path), "--json"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["decision"] for line in done.stdout.splitlines()] == ["positive", "negative"]


def test_one_line_escapes_what_does_not_print():
    assert one_line("a\x1b[2J\n\u202eé\udcff") == "a\\x1b[2J\\n\\u202eé\\udcff"
