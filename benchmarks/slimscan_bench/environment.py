"""The machine that a measurement was taken on, as far as it tells. Base dependencies only: it runs on the device."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# What the kernels of XNNPACK and libjpeg-turbo are chosen by, as /proc/cpuinfo spells it on x86 and on ARM.
_X86_FEATURES = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8")
_ARM_FEATURES = ("neon", "vfpv4", "asimd", "asimdhp", "fphp", "asimddp", "i8mm", "sve", "sve2")
# Bits of the Raspberry Pi firmware's get_throttled
# (https://www.raspberrypi.com/documentation/computers/os.html#get_throttled).
_THROTTLING = {
    0: "under-voltage now",
    1: "clock capped now",
    2: "throttled now",
    3: "soft temperature limit now",
    16: "under-voltage since start",
    17: "clock capped since start",
    18: "throttled since start",
    19: "soft temperature limit since start",
}
_FIRMWARE_FLAGS = "sys/devices/platform/soc/soc:firmware/get_throttled"
_BUSY_LOAD = 0.5  # share of the cores that others may use before the figures are theirs too


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a machine says of itself; None where it does not say.

    Attributes:
        board: Model of the board ("Raspberry Pi 4 Model B Rev 1.4").
        architecture: `x86_64`, `aarch64`, `armv7l`.
        cpu_model: Name of the processor.
        cpu_features: Instruction sets that decide which kernels run.
        cores: Cores of the machine.
        usable_cores: Cores that this process may run on.
        governor: Frequency governor of the first core.
        frequency_policies: What each core's clock may do: its governor and limits ("ondemand 600-1500 MHz").
        boost: Whether the clock may rise above its nominal rate.
        frequencies_mhz: Clock of each core at this moment.
        max_frequency_mhz: Highest clock of the first core.
        temperature_c: Hottest thermal zone, degrees Celsius.
        throttled_flags: The Raspberry Pi firmware's `get_throttled`; 0 is well.
        load_average: Runnable processes over the last 1, 5 and 15 minutes.
        memory_total_mib: Main memory.
        memory_available_mib: Of it, what a new process could have.
        kernel: Name and release of the kernel.
        python: Version of the Python interpreter.
        numpy: Version.
        pillow: Version.
        libjpeg_turbo: Version that Pillow decodes with; None when it decodes with another libjpeg.
        interpreter: Package and version that runs the model.
        delegate: What computes the operators inside it ("XNNPACK").
    """

    board: str | None
    architecture: str
    cpu_model: str | None
    cpu_features: tuple[str, ...]
    cores: int | None
    usable_cores: int | None
    governor: str | None
    frequency_policies: tuple[str, ...] | None
    boost: bool | None
    frequencies_mhz: tuple[float, ...] | None
    max_frequency_mhz: float | None
    temperature_c: float | None
    throttled_flags: int | None
    load_average: tuple[float, float, float] | None
    memory_total_mib: float | None
    memory_available_mib: float | None
    kernel: str
    python: str
    numpy: str
    pillow: str
    libjpeg_turbo: str | None
    interpreter: str
    delegate: str | None

    @property
    def throttling(self) -> tuple[str, ...]:
        """The throttling flags in words; empty when all is well or nothing is known."""
        flags = self.throttled_flags or 0
        return tuple(words for bit, words in _THROTTLING.items() if flags >> bit & 1)

    @property
    def concerns(self) -> tuple[str, ...]:
        """Reasons to doubt a latency measured in this state, in words."""
        found = [f"the board reports: {words}" for words in self.throttling]
        if self.load_average and self.usable_cores and self.load_average[0] > _BUSY_LOAD * self.usable_cores:
            found.append(f"other work ran: load average {self.load_average[0]:.2f} on {self.usable_cores} cores")
        if self.governor not in (None, "performance"):
            found.append(f"the clock may vary: frequency governor {self.governor!r}")
        return tuple(found)


def read_environment(*, interpreter: str, delegate: str | None = None, root: Path = Path("/")) -> Environment:
    """Ask the machine what it is and how it is.

    Args:
        interpreter: `slimscan_edge.interpreter.Interpreter.backend` of the model that is measured.
        delegate: What computes the operators inside it, where it is known.
        root: Where `/proc` and `/sys` are.
    """
    import numpy
    import PIL
    from PIL import features

    cpu = _cpu_info(root)
    memory = _table(root / "proc/meminfo")
    return Environment(
        board=_text(root / "proc/device-tree/model"),
        architecture=platform.machine(),
        cpu_model=cpu.get("model name") or cpu.get("Model") or None,
        cpu_features=_features(cpu),
        cores=os.cpu_count(),
        usable_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        governor=_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        frequency_policies=_frequency_policies(root),
        boost=_boost(root),
        frequencies_mhz=_frequencies(root),
        max_frequency_mhz=_scaled(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", 1e-3),
        temperature_c=_temperature(root),
        throttled_flags=_throttled_flags(root),
        load_average=_load_average(),
        memory_total_mib=_mib(memory.get("MemTotal")),
        memory_available_mib=_mib(memory.get("MemAvailable")),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        numpy=numpy.__version__,
        pillow=PIL.__version__,
        libjpeg_turbo=features.version_feature("libjpeg_turbo") if features.check_feature("libjpeg_turbo") else None,
        interpreter=interpreter,
        delegate=delegate,
    )


def concerns_between(before: Environment, after: Environment) -> tuple[str, ...]:
    """Reasons to doubt what was measured in between. The load afterwards is our own; throttling afterwards counts.

    What makes a measurement worthless is told by `slimscan_bench.validity`.
    """
    throttled = set(after.throttling) - set(before.throttling)
    return (*before.concerns, *(f"while measuring: {words}" for words in sorted(throttled)))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _scaled(path: Path, factor: float) -> float | None:
    try:
        return float(_text(path) or "") * factor
    except ValueError:
        return None


def _table(path: Path) -> dict[str, str]:
    """The first block of `name : value` lines."""
    block = (_text(path) or "").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _cpu_info(root: Path) -> dict[str, str]:
    """`/proc/cpuinfo` of the first core; on ARM the name of the machine comes in a last block of its own."""
    path = root / "proc/cpuinfo"
    last = (_text(path) or "").rsplit("\n\n", 1)[-1]
    models = [line.partition(":")[2].strip() for line in last.splitlines() if line.startswith("Model")]
    return {**_table(path), **({"Model": models[0]} if models else {})}


def _features(cpu: dict[str, str]) -> tuple[str, ...]:
    present = (cpu.get("flags") or cpu.get("Features") or "").split()
    return tuple(name for name in (*_X86_FEATURES, *_ARM_FEATURES) if name in present)


def _frequencies(root: Path) -> tuple[float, ...] | None:
    files = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    values = [_scaled(file, 1e-3) for file in files]  # kHz
    return tuple(value for value in values if value is not None) or None


def _frequency_policies(root: Path) -> tuple[str, ...] | None:
    policies = []
    for folder in sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq")):
        governor = _text(folder / "scaling_governor") or "unknown"
        low, high = (_scaled(folder / f"scaling_{end}_freq", 1e-3) for end in ("min", "max"))  # kHz
        limits = "" if low is None or high is None else f" {low:.0f}-{high:.0f} MHz"
        policies.append(f"{governor}{limits}")
    return tuple(policies) or None


def _boost(root: Path) -> bool | None:
    no_turbo = _text(root / "sys/devices/system/cpu/intel_pstate/no_turbo")
    boost = _text(root / "sys/devices/system/cpu/cpufreq/boost")
    if no_turbo in ("0", "1"):
        return no_turbo == "0"
    return boost == "1" if boost in ("0", "1") else None


def _temperature(root: Path) -> float | None:
    zones = (_scaled(file, 1e-3) for file in root.glob("sys/class/thermal/thermal_zone*/temp"))  # thousandths
    return max((zone for zone in zones if zone is not None), default=None)


def _throttled_flags(root: Path) -> int | None:
    word = _text(root / _FIRMWARE_FLAGS) or _vcgencmd()
    try:
        return int(word.rpartition("=")[2], 16) if word else None
    except ValueError:
        return None


def _vcgencmd() -> str | None:
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _load_average() -> tuple[float, float, float] | None:
    try:
        return os.getloadavg()
    except (OSError, AttributeError):
        return None


def _mib(field: str | None) -> float | None:
    """A `/proc` size ("3884832 kB") in MiB."""
    try:
        return int((field or "").split()[0]) / 1024
    except (ValueError, IndexError):
        return None
