"""Build the ARM machines that the runtime is tested on: `python tests/emulation/build_root.py [NAME...]`.

A machine is a folder with the files of a Debian root for another processor: Debian's packages unpacked and never
installed, the wheels of `requirements/device.txt` beside them, and what the kernel of a Raspberry Pi 4 says of its
processor. Only its Python is run, by QEMU's user-mode emulation, which looks up absolute paths in the root first.

Roots are kept in the cache folder under a name that holds a hash of all that they are built from, and get that name
only once their Python has imported the interpreter.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from slimscan_edge.errors import EXIT_DONE, EXIT_MACHINE, MachineError
from slimscan_train.pixels import cache_folder

REPOSITORY = Path(__file__).parents[2]
PINS = REPOSITORY / "requirements" / "device.txt"
LONGEST_S = 600
"""Seconds that one program may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """An ARM machine.

    Attributes:
        name: What it is called here.
        suite: Debian's release.
        architecture: Debian's name of the processor.
        processor: The kernel's and the wheels' name of it.
        python: The release's Python.
        glibc_minor: The release's C library is 2.this.
        emulator: QEMU's program.
        cpu: QEMU's name of the processor's model.
        cpu_features: What the kernel of a Raspberry Pi 4 says that the processor has and that `cpu` has too.
        packages: Debian's packages that are asked for; theirs come with them.
        from_debian: Distributions that those hold, so that no wheel is taken.
        libraries: Folders of the root with libraries that an installed package would have linked into the usual one.
    """

    name: str
    suite: str
    architecture: str
    processor: str
    python: str
    glibc_minor: int
    emulator: str
    cpu: str
    cpu_features: str
    packages: tuple[str, ...] = ("python3",)
    from_debian: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """Where its files are once it is built."""
        made_of = f"{Path(__file__).read_text()}{self}{list(pinned_wheels(self))}"
        digest = hashlib.sha256(made_of.encode()).hexdigest()
        return cache_folder() / "emulation" / f"{self.name}-{digest[:12]}"

    def run(self, *words: str | Path, root: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run its Python with this checkout's `slimscan_edge`; the exit code is not looked at.

        Args:
            words: The arguments of Python.
            root: Of a machine that is still being built.
        """
        root = root or self.root
        environment = {
            "HOME": str(root),
            "PATH": "/usr/bin",
            "PYTHONPATH": f"{REPOSITORY / 'edge_runtime'}:{root / 'wheels'}",
            "LD_LIBRARY_PATH": ":".join(str(root / folder) for folder in self.libraries),
        }
        python = root / "usr" / "bin" / f"python{self.python}"
        emulation = (find_program(self.emulator), "-cpu", self.cpu, "-L", root, python)
        return subprocess.run(
            [str(word) for word in (*emulation, *words)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=LONGEST_S,
            check=False,
        )


_ARM64 = {
    "architecture": "arm64",
    "processor": "aarch64",
    "emulator": "qemu-aarch64-static",
    "cpu": "cortex-a72",
    "cpu_features": "fp asimd evtstrm crc32 cpuid",
}
MACHINES = (
    Machine(name="bookworm-arm64", suite="bookworm", python="3.11", glibc_minor=36, **_ARM64),
    Machine(name="trixie-arm64", suite="trixie", python="3.13", glibc_minor=41, **_ARM64),
    Machine(
        name="bookworm-armhf",
        suite="bookworm",
        architecture="armhf",
        processor="armv7l",
        python="3.11",
        glibc_minor=36,
        emulator="qemu-arm-static",
        cpu="cortex-a15",
        cpu_features="half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae",
        packages=("python3", "python3-numpy", "python3-pil"),  # of these PyPI has no wheels for 32-bit ARM
        from_debian=("numpy", "pillow"),
        libraries=("usr/lib/arm-linux-gnueabihf/blas", "usr/lib/arm-linux-gnueabihf/lapack"),
    ),
)
PROGRAMS = {
    "debootstrap": "debootstrap",
    "dpkg-deb": "dpkg",
    **{machine.emulator: "qemu-user-static" for machine in MACHINES},
}
"""What builds and runs a machine, and Debian's package of it."""


def main(words: list[str] | None = None) -> int:
    """Build the machines that are not there yet; exit code 4 when one cannot be built."""
    parser = argparse.ArgumentParser(description="Build the ARM machines that the runtime is tested on.")
    known = [machine.name for machine in MACHINES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(known)}; all when none is given")
    names = parser.parse_args(words).names or known
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no machine is called {', '.join(unknown)}, expected some of {', '.join(known)}")
    absent = [machine for machine in MACHINES if machine.name in names and not is_ready(machine)]
    if not absent:
        return EXIT_DONE
    try:
        prepare_host()
        mirror = debian_mirror()
    except MachineError as exc:
        print(f"no ARM machine can be built: {exc}", file=sys.stderr)
        return EXIT_MACHINE
    print(f"building {', '.join(machine.name for machine in absent)} (a minute or two)", file=sys.stderr)
    with ThreadPoolExecutor() as pool:
        problems = [problem for problem in pool.map(lambda machine: _try_to_build(machine, mirror), absent) if problem]
    for problem in problems:
        print(problem, file=sys.stderr)
    return EXIT_MACHINE if problems else EXIT_DONE


def _try_to_build(machine: Machine, mirror: str) -> str:
    try:
        build(machine, mirror)
    except MachineError as exc:
        return f"{machine.name} cannot be built: {exc}"
    return ""


def is_ready(machine: Machine) -> bool:
    """Whether it is built and can be run."""
    return machine.root.is_dir() and shutil.which(machine.emulator, path=_program_path()) is not None


def build(machine: Machine, mirror: str) -> None:
    """Build a machine's root; nothing is left when it fails.

    Args:
        machine: What to build.
        mirror: URL of a Debian archive.

    Raises:
        MachineError: A program that is needed is absent or fails, or what was built does not run.
    """
    machine.root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{machine.name}-unfinished-", dir=machine.root.parent) as folder:
        scratch = Path(folder)
        root = scratch / "root"
        root.mkdir()
        unpack_packages(machine, mirror, scratch / "packages", root)
        unpack_wheels(machine, scratch / "wheels", root / "wheels")
        describe_processor(machine, root)
        done = machine.run("-c", "from slimscan_edge.interpreter import import_interpreter as i; i()", root=root)
        if done.returncode:
            raise MachineError(f"its Python ended with {done.returncode}: {_last_line(done.stderr)}")
        if not machine.root.exists():
            root.rename(machine.root)


def unpack_packages(machine: Machine, mirror: str, downloads: Path, root: Path) -> None:
    """Download Debian's packages, signatures checked, and unpack them; none of their scripts is run.

    `--download-only` leaves out what `--foreign` does besides: device files, and a `proc` that links to this
    machine's, for which it would have to be run by root.
    """
    wanted = ("--variant=minbase", f"--arch={machine.architecture}", f"--include={','.join(machine.packages)}")
    run_program("debootstrap", "--download-only", "--force-check-gpg", *wanted, machine.suite, downloads, mirror)
    for package in sorted(downloads.glob("var/cache/apt/archives/*.deb")):
        run_program("dpkg-deb", "--extract", package, root)


def unpack_wheels(machine: Machine, downloads: Path, target: Path) -> None:
    """Download the wheels that `requirements/device.txt` pins for the machine, by their hashes, and unpack them."""
    downloads.mkdir()
    pins = downloads / "pins.txt"
    pins.write_text("\n".join(pinned_wheels(machine)))
    platforms = [f"--platform=manylinux_2_{minor}_{machine.processor}" for minor in range(17, machine.glibc_minor + 1)]
    asked = ("--only-binary=:all:", "--no-deps", "--require-hashes", f"--python-version={machine.python}", *platforms)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet")
    run_program(*pip, *asked, "--dest", downloads, "--requirement", pins)
    for wheel in downloads.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)


def pinned_wheels(machine: Machine) -> Iterator[str]:
    """The lines of `requirements/device.txt` that hold on the machine, without their markers.

    They are chosen here since pip would judge the markers by the machine that it runs on.
    """
    environment = {
        "platform_machine": machine.processor,
        "sys_platform": "linux",
        "python_version": machine.python,
        "python_full_version": f"{machine.python}.0",
    }
    for line in PINS.read_text().replace("\\\n", "").splitlines():
        if not line or line.startswith((" ", "#")):
            continue
        wanted, *hashes = line.split(" --hash=")
        requirement = Requirement(wanted)
        here = requirement.marker is None or requirement.marker.evaluate(environment)
        if here and requirement.name not in machine.from_debian:
            options = " ".join(f"--hash={digest.strip()}" for digest in hashes)
            yield f"{requirement.name}{requirement.specifier} {options}"


def describe_processor(machine: Machine, root: Path) -> None:
    """Write what the kernel of a Raspberry Pi 4 says of its processor; ai-edge-litert crashes where nothing does."""
    core = {
        "Features": machine.cpu_features,
        "CPU implementer": "0x41",
        "CPU architecture": "8" if machine.architecture == "arm64" else "7",
        "CPU variant": "0x0",
        "CPU part": "0xd08",
        "CPU revision": "3",
    }
    cores = ("\n".join(f"{key}\t: {text}" for key, text in {"processor": n, **core}.items()) for n in range(4))
    (root / "proc" / "cpuinfo").write_text("\n\n".join((*cores, "Model\t: Raspberry Pi 4 Model B Rev 1.4\n")))
    folder = root / "sys" / "devices" / "system" / "cpu"
    folder.mkdir(parents=True)
    for name, text in {"possible": "0-3", "present": "0-3", "online": "0-3", "kernel_max": "3"}.items():
        (folder / name).write_text(f"{text}\n")


def prepare_host() -> None:
    """Install the programs that are absent, from this machine's own package source.

    Raises:
        MachineError: They are absent and cannot be installed.
    """
    absent = sorted({package for name, package in PROGRAMS.items() if not shutil.which(name, path=_program_path())})
    if not absent and debian_archives():
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        what = " and ".join(absent) or "apt's list of packages"
        raise MachineError(f"{what} is absent; run this once as root, on Debian")
    run_program("apt-get", "update", "--quiet")
    run_program("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *absent)


def debian_mirror() -> str:
    """The Debian archive that this machine's apt takes its packages from.

    Raises:
        MachineError: It takes none from a Debian archive.
    """
    archives = debian_archives()
    if not archives:
        raise MachineError("apt knows no Debian archive here; the machines are built on Debian only")
    return archives[0]


def debian_archives() -> list[str]:
    """URLs of the Debian archives that apt has a list of."""
    if not shutil.which("apt-get"):
        return []
    listed = run_program("apt-get", "indextargets", "--format", "$(LABEL) $(COMPONENT) $(REPO_URI)")
    return [line.split()[2] for line in listed.splitlines() if line.startswith("Debian main ")]


def run_program(*words: str | Path) -> str:
    """Run a program to its end and return what it wrote to standard output.

    Raises:
        MachineError: It is absent, fails, or takes longer than `LONGEST_S`.
    """
    name = str(words[0])
    command = [find_program(name), *map(str, words[1:])]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise MachineError(f"{name} took longer than {LONGEST_S} seconds") from exc
    if done.returncode:
        raise MachineError(f"{name} ended with {done.returncode}: {_last_line(done.stderr or done.stdout)}")
    return done.stdout


def find_program(name: str) -> str:
    """Path of a program.

    Raises:
        MachineError: It is absent.
    """
    found = shutil.which(name, path=_program_path())
    if found is None:
        raise MachineError(f"{name} is not installed; run as root: apt-get install {PROGRAMS.get(name, name)}")
    return found


def _program_path() -> str:
    """Where programs are looked for: debootstrap lies where only root looks."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


if __name__ == "__main__":
    sys.exit(main())
