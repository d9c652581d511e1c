"""Make a virtual environment with the locked packages and nothing else: `python3.11 requirements/install.py`.

Needs the standard library only. What is published after the lock plays no part: the lock holds every package with its
hashes, and no installer is let resolve anything (`--no-deps`). The new environment's pip installs uv, the lock's own,
and uv installs the rest, in a third of the time. uv does not read pip's settings, so it is told where pip's index is;
what cannot be told to it (a keyring, for one) makes it fail, and then pip installs everything.

Exit code 4, and one line that says why, where the packages cannot be installed.
"""

from __future__ import annotations  # so that an older Python comes as far as the line that says it is too old

import argparse
import ast
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
for package in ("edge_runtime", "train"):
    sys.path.insert(0, str(REPOSITORY / package))

PYTHONS = ((3, 11), (3, 12), (3, 13))
"""Those that the lock was tried on; TensorFlow has wheels for no other."""
GLIBC = (2, 28)
"""The oldest that all wheels of the lock run on."""
ROOM_BYTES = 3_200_000_000
"""What an environment takes on disk."""
HASHED = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
UV_SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
}
"""The settings of pip that say how an index is reached, and the variable that tells uv the same."""
NO_ROOM = ("No space left on device", "Disk quota exceeded")


class InstallError(Exception):
    """Nothing can be installed here; the message is one line."""


class NoRoomError(InstallError):
    """The disk is full."""


def main(words: list[str] | None = None) -> int:
    """Install; 4 when this machine cannot have the packages, and then no environment is left."""
    parser = argparse.ArgumentParser(description="Make a virtual environment with the locked packages.")
    parser.add_argument("venv", type=Path, nargs="?", default=Path(".venv"), help="folder to make anew (.venv)")
    parser.add_argument(
        "--lock", type=Path, default=REPOSITORY / "requirements" / "workstation.txt", help="pins with hashes"
    )
    arguments = parser.parse_args(words)
    try:
        require_python()
        require_platform()
        require_processor()
        require_own(arguments.venv)
        require_room(arguments.venv)
        print(f"installing the locked packages into {arguments.venv} (half a minute, and the download)", flush=True)
        try:
            install(arguments.lock, arguments.venv)
        except BaseException:
            shutil.rmtree(arguments.venv, ignore_errors=True)
            raise
    except (InstallError, OSError) as exc:
        print(f"make: {exc}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        return 130
    return 0


def require_python() -> None:
    """Refuse a Python that the lock has no wheels for."""
    kind, version = platform.python_implementation(), platform.python_version()
    known = [f"{major}.{minor}" for major, minor in PYTHONS]
    if kind != "CPython" or sysconfig.get_config_var("Py_GIL_DISABLED") or sys.version_info[:2] not in PYTHONS:
        threaded = " without a global lock" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
        raise InstallError(
            f"{kind} {version}{threaded} is none that TensorFlow and the other packages are published for; install one "
            f"of CPython {', '.join(known)}, and say which: make venv PYTHON=python{known[0]}"
        )


def require_platform() -> None:
    """Refuse a system or a processor that the lock has no wheels for."""
    system, machine, bits = platform.system(), platform.machine(), sys.maxsize.bit_length() + 1
    if (system, machine, bits) != ("Linux", "x86_64", 64):
        found = f"{system} on {machine} with a {bits}-bit Python"
    elif (glibc := glibc_version()) < GLIBC:
        found = f"Linux with glibc {'.'.join(map(str, glibc))}" if glibc else "Linux without glibc"
    else:
        return
    wanted = f"64-bit x86 Linux with glibc {'.'.join(map(str, GLIBC))} or newer"
    raise InstallError(f"this machine is {found}; the locked packages are for {wanted}: use such a machine")


def glibc_version() -> tuple[int, ...]:
    """Version of the C library; empty where it is another one (musl)."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError):
        return ()
    return tuple(map(int, version.split(".")[:2])) if name == "glibc" else ()


def require_processor() -> None:
    """Refuse a processor that TensorFlow does not run on."""
    from slimscan_edge.errors import MachineError
    from slimscan_train.quiet import require_avx

    try:
        require_avx()
    except MachineError as exc:
        raise InstallError(str(exc)) from exc


def require_own(venv: Path) -> None:
    """Refuse a folder that holds something else than an environment: it would be removed."""
    if venv.exists() and not (venv / "pyvenv.cfg").is_file() and (not venv.is_dir() or any(venv.iterdir())):
        raise InstallError(
            f"{venv} is there and no virtual environment; it is left alone, move it or name another folder"
        )


def require_room(venv: Path) -> None:
    """Refuse a disk that the packages do not fit on."""
    folder = next(parent for parent in venv.resolve().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < ROOM_BYTES:
        raise InstallError(
            f"{folder} has {free / 1e9:.1f} GB free, the packages take {ROOM_BYTES / 1e9:.1f} GB; make room"
        )


def install(lock: Path, venv: Path) -> None:
    """Make the environment anew.

    Args:
        lock: Every package as `name==version`, with hashes.
        venv: Folder of the environment; what was there is removed.

    Raises:
        InstallError: A package cannot be had, or there is no room.
    """
    run(sys.executable, "-m", "venv", "--clear", venv)
    python = venv / "bin" / "python"
    pip = (python, "-m", "pip", "-qq", "--no-input", "--disable-pip-version-check", "--require-virtualenv", "install")
    with tempfile.TemporaryDirectory() as scratch:
        only_uv = Path(scratch) / "uv.txt"
        only_uv.write_text(locked(lock, "uv"))
        run(*pip, *HASHED, "-r", only_uv)
    # A pinned file is right wherever it lies, so every index is asked for it, as pip does.
    uv = (venv / "bin" / "uv", "pip", "install", "--quiet", "--python", python, "--index-strategy", "unsafe-best-match")
    try:
        run(*uv, *HASHED, "-r", lock, environment={**uv_settings(python), **os.environ})
    except NoRoomError:
        raise
    except InstallError as exc:
        print(f"make: {exc}; pip tries, which takes some minutes", file=sys.stderr, flush=True)
        run(*pip, *HASHED, "-r", lock)


def locked(lock: Path, name: str) -> str:
    """The lines of a lock that pin one package."""
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    return "\n".join(line for line in lines if line.startswith(f"{name}=="))


def uv_settings(python: Path) -> dict[str, str]:
    """The variables that tell uv what pip's files and variables say of indexes, for those that say something."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "--disable-pip-version-check", "config", "list"],
        capture_output=True, text=True, errors="replace", check=False,
    ).stdout  # fmt: skip
    rows = [line.partition("=") for line in listed.splitlines()]
    settings = {}
    for section in ("global.", "install.", ":env:."):  # each counts more than the one before
        for key, _, value in rows:
            variable = UV_SETTINGS.get(key[len(section) :])
            if key.startswith(section) and variable:
                joint = "," if variable == "UV_FIND_LINKS" else " "
                settings[variable] = joint.join(ast.literal_eval(value).split())
    return settings


def run(*words: str | Path, environment: dict[str, str] | None = None) -> None:
    """Run a program to its end; what it wrote is shown when it fails for another reason than want of room.

    Raises:
        InstallError: It fails.
    """
    asked = [str(word) for word in words]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, errors="replace", env=environment, check=False)
    except OSError as exc:
        raise InstallError(f"{asked[0]} cannot be run: {exc.strerror}") from exc
    if done.returncode == 0:
        return
    said = (done.stderr + done.stdout).strip()
    if any(words in said for words in NO_ROOM):
        raise NoRoomError(
            "the disk is full, that of the environment or that of the caches of pip and uv; make room, the packages "
            f"take {ROOM_BYTES / 1e9:.1f} GB on each"
        )
    print(said, file=sys.stderr)
    name = "pip" if "-m" in asked[1:2] and asked[2] == "pip" else Path(asked[0]).name
    raise InstallError(f"{name} could not install the locked packages (it ended with {done.returncode})")


if __name__ == "__main__":
    sys.exit(main())
