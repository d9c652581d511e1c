import dataclasses
import json

import pytest

from slimscan_bench.environment import read_environment

PI_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU part\t: 0xd08

processor\t: 1
Features\t: fp asimd evtstrm crc32 cpuid

Revision\t: c03111
Model\t\t: Raspberry Pi 4 Model B Rev 1.1
"""
X86_CPUINFO = """\
processor\t: 0
model name\t: Example CPU @ 2.00GHz
flags\t\t: fpu sse4_2 avx avx2 fma avx512f
"""


def machine(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return read_environment(interpreter="some_interpreter 1.0", root=root)


def test_reads_a_raspberry_pi(tmp_path):
    cpu = "sys/devices/system/cpu/cpu"
    pi = machine(
        tmp_path,
        {
            "proc/cpuinfo": PI_CPUINFO,
            "proc/meminfo": "MemTotal:        1915904 kB\nMemAvailable:    1572864 kB\n",
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.1\0",
            f"{cpu}0/cpufreq/scaling_governor": "ondemand\n",
            f"{cpu}0/cpufreq/scaling_min_freq": "600000\n",
            f"{cpu}0/cpufreq/scaling_max_freq": "1500000\n",
            f"{cpu}0/cpufreq/scaling_cur_freq": "600000\n",
            f"{cpu}1/cpufreq/scaling_governor": "powersave\n",
            f"{cpu}1/cpufreq/scaling_cur_freq": "1500000\n",
            f"{cpu}0/cpufreq/cpuinfo_max_freq": "1500000\n",
            "sys/class/thermal/thermal_zone0/temp": "48199\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        },
    )
    assert pi.board == "Raspberry Pi 4 Model B Rev 1.1"
    assert pi.cpu_model == "Raspberry Pi 4 Model B Rev 1.1"
    assert pi.cpu_features == ("asimd",)
    assert pi.governor == "ondemand"
    assert pi.frequency_policies == ("ondemand 600-1500 MHz", "powersave")
    assert pi.boost is None
    assert pi.frequencies_mhz == (600.0, 1500.0)
    assert pi.max_frequency_mhz == 1500.0
    assert pi.temperature_c == pytest.approx(48.199)
    assert pi.memory_total_mib == 1871.0
    assert pi.memory_available_mib == 1536.0
    assert pi.throttling == (
        "under-voltage now",
        "throttled now",
        "under-voltage since start",
        "throttled since start",
    )
    assert "the board reports: throttled now" in pi.concerns
    assert "the clock may vary: frequency governor 'ondemand'" in pi.concerns


def test_reads_a_pc(tmp_path):
    pc = machine(tmp_path, {"proc/cpuinfo": X86_CPUINFO})
    assert pc.cpu_model == "Example CPU @ 2.00GHz"
    assert pc.cpu_features == ("sse4_2", "avx", "avx2", "fma", "avx512f")


@pytest.mark.parametrize(
    ("files", "boost"),
    [
        ({"cpufreq/boost": "1\n"}, True),
        ({"cpufreq/boost": "0\n"}, False),
        ({"intel_pstate/no_turbo": "0\n"}, True),
        ({"intel_pstate/no_turbo": "1\n", "cpufreq/boost": "1\n"}, False),
    ],
)
def test_reads_whether_the_clock_may_rise_above_its_rate(tmp_path, files, boost):
    assert machine(tmp_path, {f"sys/devices/system/cpu/{name}": text for name, text in files.items()}).boost is boost


def test_what_a_machine_does_not_tell_is_none(tmp_path):
    bare = machine(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "no number"})
    for name in (
        "board",
        "cpu_model",
        "governor",
        "frequency_policies",
        "frequencies_mhz",
        "temperature_c",
        "delegate",
    ):
        assert getattr(bare, name) is None
    assert bare.memory_total_mib is None
    assert bare.cpu_features == ()
    assert bare.interpreter == "some_interpreter 1.0"


def test_this_machine_can_be_written_as_json():
    here = read_environment(interpreter="some_interpreter 1.0")
    assert json.loads(json.dumps(dataclasses.asdict(here)))["python"] == here.python


def test_load_of_others_is_a_concern(tmp_path):
    quiet = dataclasses.replace(
        machine(tmp_path, {}), usable_cores=4, load_average=(0.1, 0.1, 0.1), throttled_flags=None
    )
    assert quiet.concerns == ()
    busy = dataclasses.replace(quiet, load_average=(3.0, 3.0, 3.0))
    assert busy.concerns == ("other work ran: load average 3.00 on 4 cores",)
