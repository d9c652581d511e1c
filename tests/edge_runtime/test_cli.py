import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slimscan_edge import __version__, cli
from slimscan_edge.cli import COMMANDS, Command, main
from slimscan_edge.errors import ImageError

HEAVY = ("tensorflow", "tf_keras", "keras", "scipy", "matplotlib", "sklearn", "pandas", "jax")


def loaded_by(*words: str) -> set[str]:
    """The top packages that a fresh process has loaded when it has run `slimscan WORDS`."""
    program = (
        "import json, sys\nfrom slimscan_edge.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    run = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["predict", "--help"], ["doctor", "--help"]])
def test_help_loads_neither_numpy_nor_pillow(words):
    assert loaded_by(*words).isdisjoint({"numpy", "PIL", "ai_edge_litert", "tflite_runtime", *HEAVY})


@pytest.mark.parametrize("command", ["predict", "doctor"])
def test_the_device_commands_load_no_training_package(command, golden_bundle_path, xrays, tmp_path):
    words = [str(xrays), "--overlay", str(tmp_path / "overlays")] if command == "predict" else []
    loaded = loaded_by(command, *words, "--bundle", str(golden_bundle_path))
    assert {"numpy", "PIL"} <= loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_library_loads_no_training_package(golden_bundle_path):
    program = (
        "import sys, numpy\nfrom slimscan_edge import Classifier\n"
        f"Classifier.load({str(golden_bundle_path)!r}).predict(numpy.zeros((9, 9), 'uint8'))\n"
        f"sys.exit(bool({set(HEAVY)!r} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_documents_its_help(name, capsys):
    command = COMMANDS[name]
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    assert command.summary in " ".join(said.split())
    assert "exit codes:" in said


def test_help_lists_every_command_with_its_summary(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said and command.summary in said for name, command in COMMANDS.items())
    assert "Not a medical device" in said


def test_nothing_asked_is_bad_usage(capsys):
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().out


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"slimscan {__version__}\n"


def test_an_unknown_command_is_told_the_known_ones(capsys):
    assert main(["predicr"]) == 2
    said = capsys.readouterr().err
    assert "unknown command 'predicr'" in said
    assert "predict" in said


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Make a command `trial` of a source text: `command(source, extra="")`."""

    def made(source, extra=""):
        (tmp_path / "trial_command.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(COMMANDS, "trial", Command(module="trial_command", summary="a trial", extra=extra))

    yield made
    sys.modules.pop("trial_command", None)


def test_a_name_that_is_not_utf8_is_printed_escaped(command, monkeypatch):
    command("def add_arguments(parser): pass\ndef run(arguments):\n    print('r\\udcf6ntgen.jpeg')\n    return 0")
    strict = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", strict)
    assert main(["trial"]) == 0
    assert strict.buffer.getvalue() == b"r\\udcf6ntgen.jpeg\n"


def test_a_missing_extra_says_what_to_run(command, capsys):
    command("import a_package_that_is_absent.part", extra="bench")
    assert main(["trial"]) == 4
    assert capsys.readouterr().err == (
        "slimscan trial: trial needs the 'bench' extra (a_package_that_is_absent is not installed); "
        "run: pip install 'slimscan[bench]'\n"
    )


def test_a_missing_base_package_says_what_to_run(command, capsys):
    command("def add_arguments(parser): pass\ndef run(arguments): import a_package_that_is_absent")
    assert main(["trial"]) == 4
    assert "run: pip install --force-reinstall slimscan" in capsys.readouterr().err


def test_a_python_that_lacks_a_part_of_itself_is_told(command, capsys):
    command(
        "def add_arguments(parser): pass\ndef run(arguments): raise ModuleNotFoundError(name='lzma')", extra="bench"
    )
    assert main(["trial"]) == 4
    assert capsys.readouterr().err == (
        "slimscan trial: this Python lacks lzma, a part of itself; install the whole of it\n"
    )


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (ImageError("it is torn"), 2, "slimscan trial: it is torn\n"),
        (KeyboardInterrupt(), 130, "slimscan trial: stopped\n"),
    ],
)
def test_our_errors_end_in_one_line(monkeypatch, capsys, raised, code, said):
    def stop(*_):
        raise raised

    monkeypatch.setitem(COMMANDS, "trial", COMMANDS["doctor"])
    monkeypatch.setattr(cli, "_run", stop)
    assert main(["trial"]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("asked", "codes_unbuffered"),
    [(["predict"], {2}), (["predict", "--help"], {0, 2}), (["--help"], {2}), (["--version"], {2})],
)
@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_reader_that_goes_away_is_no_traceback(
    golden_bundle_path, tmp_path, encode, asked, codes_unbuffered, unbuffered
):
    """Written at once, argparse's help meets the closed pipe itself, and ignores it since Python 3.11.4."""
    for index in range(20):
        (tmp_path / f"{index}.png").write_bytes(encode(np.zeros((9, 9), np.uint8), "PNG"))
    more = [str(tmp_path), "--bundle", str(golden_bundle_path)] if asked == ["predict"] else []
    words = [sys.executable, "-m", "slimscan_edge", *asked, *more]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode in (codes_unbuffered if unbuffered else {2})
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here to write to")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_said_in_one_line(unbuffered):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "slimscan_edge", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 4
    assert done.stderr == ("slimscan: No space left on device: what was answered could not all be written; make room\n")
