"""`make venv` on package indexes of folders: what is published after the lock plays no part.

The very recipe of the Makefile runs, with another environment, lock and index. Each wheel is made here but uv's, which
is packed again from the one that is installed, so that no network is needed.
"""

import base64
import csv
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
LOCK = REPOSITORY / "requirements" / "workstation.txt"
OLD, NEW = "7.17.3", "7.99"
SETTINGS = ("PIP_", "UV_", "MAKE", "MFLAGS", "PYTHON", "VIRTUAL_ENV", "VENV", "LOCK", "XDG_")


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", REPOSITORY / "requirements" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_wheel(
    folder: Path, name: str, version: str, requires: tuple[str, ...] = (), extras: tuple[str, ...] = ()
) -> Path:
    """Write a wheel of one module that holds nothing but its version."""
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    module = name.replace("-", "_")
    files = {
        f"{module}.py": f"version = {version!r}\n".encode(),
        f"{module}-{version}.dist-info/METADATA": "\n".join([*lines, ""]).encode(),
        f"{module}-{version}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return pack(folder / f"{module}-{version}-py3-none-any.whl", files, f"{module}-{version}.dist-info/RECORD")


def pack(path: Path, files: dict[str, bytes], record: str) -> Path:
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for name, body in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        writer.writerow((name, f"sha256={digest}", len(body)))
    writer.writerow((record, "", ""))
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in {**files, record: rows.getvalue().encode()}.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100755 if ".data/scripts/" in name else 0o100644) << 16
            archive.writestr(entry, body)
    return path


@pytest.fixture(scope="module")
def uv_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed uv as a wheel again."""
    uv = metadata.distribution("uv")
    folder = f"uv-{uv.version}"
    files = {}
    for file in uv.files or ():
        if file.suffix == ".pyc" or file.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
            continue
        name = f"{folder}.data/scripts/{file.name}" if ".." in file.parts else str(file)
        files[name] = file.locate().read_bytes()
    tag = next(line.removeprefix("Tag: ") for line in (uv.read_text("WHEEL") or "").splitlines() if "Tag: " in line)
    path = tmp_path_factory.mktemp("uv") / f"{folder}-{tag}.whl"
    return pack(path, files, f"{folder}.dist-info/RECORD")


def pin(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    return (
        f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
    )


def make_venv(folder: Path, *options: str, **settings: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the Makefile's recipe with the lock of a folder; pip and uv are told `settings` and nothing else."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    (folder / "home").mkdir(exist_ok=True)
    plain = {"HOME": folder / "home", "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "UV_LINK_MODE": "copy"}
    environment = {name: str(value) for name, value in {**inherited, **plain, **settings}.items()}
    venv = folder / "venv"
    words = (
        "make",
        "--directory",
        REPOSITORY,
        f"VENV={venv}",
        f"LOCK={folder / 'lock.txt'}",
        *options,
        venv / ".locked",
    )
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, env=environment, timeout=1800, check=False
    )


def installed(folder: Path) -> dict[str, str]:
    program = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    done = subprocess.run([folder / "venv" / "bin" / "python", "-c", program], capture_output=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return {canonicalize_name(name): version for name, version in found.items()}


@pytest.fixture
def index(tmp_path: Path, uv_wheel: Path) -> Path:
    return write_index(tmp_path, uv_wheel)


def write_index(folder: Path, uv_wheel: Path) -> Path:
    """A folder of wheels and `lock.txt`: ten pinned, the newest of each newer than its pin, and each asks for the next.

    They ask as pytest-cov does, for an extra and for no less than a release: pip without `--no-deps` looks at the
    newest one then, and refuses it.
    """
    wheels = folder / "wheels"
    wheels.mkdir()
    names = [name for name in pins() if name != "uv"][:10]
    pinned = []
    for name, asked in zip(names, [*names[1:], None], strict=True):
        requires = (f"{asked}[toml]>=7.10.6",) if asked else ()
        pinned.append(write_wheel(wheels, name, OLD, requires, ("toml",)))
        write_wheel(wheels, name, NEW, requires, ("toml",))
    shutil.copy(uv_wheel, wheels)
    (folder / "lock.txt").write_text("".join(map(pin, (*pinned, uv_wheel))))
    return wheels


def pins() -> dict[str, str]:
    """Version of each package of the real lock."""
    pairs = (line.split()[0].split("==") for line in LOCK.read_text().splitlines() if "==" in line)
    return {canonicalize_name(name): version for name, version in pairs}


def write_pages(wheels: list[Path], folder: Path) -> str:
    """Write an index of some wheels, as packages are published, and return its address."""
    for wheel in wheels:
        project = folder / canonicalize_name(wheel.name.split("-")[0])
        project.mkdir(parents=True, exist_ok=True)
        with (project / "index.html").open("a") as page:
            page.write(f'<!DOCTYPE html><a href="{wheel.as_uri()}">{wheel.name}</a><br>\n')
    return folder.as_uri()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, uv_wheel: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """An environment from two indexes that a file of pip's names: uv reads neither the file nor pip's variables.

    The index that is asked first has the newer releases alone, which must not hide the pinned ones of the other.
    """
    folder = tmp_path_factory.mktemp("made")
    wheels = sorted(write_index(folder, uv_wheel).iterdir())
    newer = [wheel for wheel in wheels if f"-{NEW}-" in wheel.name]
    first = write_pages(newer, folder / "first")
    second = write_pages([wheel for wheel in wheels if wheel not in newer], folder / "second")
    settings = folder / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {second}\n[install]\nextra-index-url =\n    {first}\n    {second}\n")
    return folder, make_venv(folder, f"PYTHON={sys.executable}", PIP_CONFIG_FILE=settings)


def test_newer_releases_play_no_part(made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = made
    assert (done.returncode, done.stderr) == (0, "")
    found = installed(folder)
    assert found.pop("uv") == metadata.version("uv")
    assert [found.get(name) for name in pins() if name != "uv"][:10] == [OLD] * 10


@pytest.mark.parametrize(("asked", "anew"), [("", False), (sys.executable, False), ("./other", True), ("absent", True)])
def test_an_environment_of_another_python_than_asked_for_is_made_anew(
    made: tuple[Path, subprocess.CompletedProcess[str]], asked: str, anew: bool
) -> None:
    folder, _ = made
    other = folder / "other"
    other.write_text("#!/bin/sh\necho another release\n")
    other.chmod(0o755)
    python = asked.replace("./", f"{folder}/")
    done = make_venv(folder, "--question", *([f"PYTHON={python}"] if asked else []))
    assert done.returncode == (1 if anew else 0)


def test_pip_installs_what_uv_does_not_reach(index: Path, tmp_path: Path) -> None:
    told = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": index, "UV_FIND_LINKS": tmp_path / "absent"}
    done = make_venv(tmp_path, **told)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].endswith("pip tries, which takes some minutes")
    assert sorted(installed(tmp_path).values()).count(OLD) == 10


def test_a_package_that_was_changed_is_refused_and_nothing_is_left(index: Path, tmp_path: Path) -> None:
    changed = next(index.glob(f"*-{OLD}-*"))
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr("more.py", "")
    done = make_venv(tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=index)
    assert done.stderr.splitlines()[-1].endswith("Error 4")
    assert "HASHES" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_that_is_absent_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").touch()
    done = make_venv(tmp_path, "PYTHON=no-such-python")
    line, error = done.stderr.splitlines()
    assert "no-such-python" in line
    assert error.endswith("Error 4")


@pytest.mark.parametrize("release", ["3.11", "3.12", "3.13"])
def test_the_lock_is_complete(release: str) -> None:
    """Whatever a locked package asks for on any Python of ours is locked too: no installer is let look for it."""
    locked = pins()
    environment = {"python_version": release, "python_full_version": f"{release}.0"}
    wanted, known = [(name, "") for name in locked], set()
    while wanted:
        name, of_extra = wanted.pop()
        known.add((name, of_extra))
        for requirement in map(Requirement, metadata.requires(name) or ()):
            if requirement.marker and not requirement.marker.evaluate({**environment, "extra": of_extra}):
                continue
            found = locked.get(canonicalize_name(requirement.name), "")
            assert found, f"{name} asks for {requirement}, which is not locked"
            assert requirement.specifier.contains(found, prereleases=True), (
                f"{name} asks for {requirement}, not {found}"
            )
            asked = {(canonicalize_name(requirement.name), extra) for extra in requirement.extras}
            wanted += asked - known


def refusal(installer: ModuleType, capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    """The one line of an installation that is refused before anything is made."""
    assert installer.main([str(folder / "venv")]) == 4
    assert list(folder.iterdir()) == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("make: ")
    return line


@pytest.mark.parametrize(
    ("flags", "refused"),
    [
        ("flags\t\t: fpu sse4_1 sse4_2 popcnt\n", True),
        ("flags\t\t: fpu xsave_avx avx2x\n", True),  # words that only hold it
        ("processor: 0\nflags\t\t: fpu avx\n", False),
        ("Features\t: fp asimd\n", False),
        ("", False),
    ],
)
def test_a_processor_without_avx(
    installer: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    flags: str, refused: bool,
) -> None:  # fmt: skip
    (tmp_path / "cpuinfo").write_text(flags)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr("slimscan_train.quiet.CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(installer, "install", lambda lock, venv: None)
    if refused:
        assert "AVX" in refusal(installer, capsys, tmp_path / "here")
    else:
        assert installer.main([str(tmp_path / "here" / "venv")]) == 0


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (4, 0)])
def test_a_python_without_wheels(
    installer: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    version: tuple[int, int],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    assert "PYTHON=python3.11" in refusal(installer, capsys, tmp_path)


def test_another_kind_of_python(
    installer: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platform.python_implementation", lambda: "PyPy")
    assert "PyPy" in refusal(installer, capsys, tmp_path)


def test_a_python_without_a_global_lock(
    installer: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: 1)
    assert "without a global lock" in refusal(installer, capsys, tmp_path)


@pytest.mark.parametrize(
    ("system", "machine", "bits", "libc", "named"),
    [
        ("Linux", "aarch64", 64, "glibc 2.36", "Linux on aarch64"),
        ("Darwin", "x86_64", 64, None, "Darwin on x86_64"),
        ("Linux", "x86_64", 32, "glibc 2.36", "32-bit"),
        ("Linux", "x86_64", 64, "glibc 2.27", "glibc 2.27"),
        ("Linux", "x86_64", 64, None, "without glibc"),
        ("Linux", "x86_64", 64, "musl 1.2.5", "without glibc"),
    ],
)
def test_a_machine_without_wheels(
    installer: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    system: str, machine: str, bits: int, libc: str | None, named: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(sys, "maxsize", 2 ** (bits - 1) - 1)
    monkeypatch.setattr(os, "confstr", lambda name: libc)
    assert named in refusal(installer, capsys, tmp_path)


def test_a_folder_of_something_else_is_left_alone(
    installer: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "home").symlink_to(tmp_path)
    for named in (tmp_path, tmp_path / "home", tmp_path / "thesis.txt"):
        assert installer.main([str(named)]) == 4
        assert "is left alone" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_disk_without_room(
    installer: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2_900_000_000))
    assert "2.9 GB free" in refusal(installer, capsys, tmp_path)


@pytest.mark.parametrize("words", ["No space left on device (os error 28)", "[Errno 122] Disk quota exceeded"])
def test_a_disk_that_becomes_full(
    installer: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    words: str,
) -> None:  # fmt: skip
    done = subprocess.CompletedProcess([], 2, stdout="", stderr=f"error: Failed to fetch\n  Caused by: {words}\n")
    monkeypatch.setattr("subprocess.run", lambda *args, **options: done)
    assert "room" in refusal(installer, capsys, tmp_path)


def test_what_was_tried_is_what_the_metadata_tells(installer: ModuleType) -> None:
    prefix = "Programming Language :: Python :: "
    told = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["classifiers"]
    releases = [line.removeprefix(prefix) for line in told if line.startswith(prefix)]
    assert [f"{major}.{minor}" for major, minor in installer.PYTHONS] == releases
