"""Hold the instructions of an answer to the committed baseline: `python tests/benchmarks/count_instructions.py`.

valgrind counts them for the golden bundle on a drawn X-ray, so that neither a busy machine nor training another
reference bundle changes the figure; its processor has the same features everywhere. Another Python, NumPy, Pillow or
interpreter does change it: then the baseline is of another environment, which is told and nothing is compared. After a
change that is meant, or with new locked packages, write it anew with `--refresh` and commit it.
"""

import argparse
import dataclasses
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from slimscan_bench.environment import read_environment
from slimscan_bench.instructions import Instructions, count_instructions
from slimscan_bench.typical_images import write_typical_images
from slimscan_edge.errors import EXIT_DONE, EXIT_GATE_FAILED, MachineError
from slimscan_edge.interpreter import describe_package, import_interpreter, package_of

BUNDLE = Path(__file__).parents[1] / "golden" / "brightness-1.0.0.slimscan"
BASELINE = Path(__file__).parent / "baseline" / "instructions.json"
AT_MOST = 1.03
"""Counts of an answer repeat to 0.3 %, those of a start to 1 %; a tenth more is far beyond."""
_PACKAGES = ("architecture", "python", "numpy", "pillow", "libjpeg_turbo", "interpreter")


def packages() -> dict[str, Any]:
    """What the count depends on besides our code."""
    here = read_environment(interpreter=describe_package(package_of(import_interpreter())))
    return {
        **{name: getattr(here, name) for name in _PACKAGES},
        "libc": "-".join(platform.libc_ver()),
        "avx2": "avx2" in here.cpu_features,  # valgrind's processor has it where the real one does
    }


def count() -> Instructions:
    """Of the golden bundle on the smallest of the drawn X-rays.

    Raises:
        MachineError: valgrind is absent, or cannot run it.
    """
    with tempfile.TemporaryDirectory(prefix="slimscan-instructions-") as folder:
        image = write_typical_images(Path(folder))[-1]
        (ours,) = count_instructions(BUNDLE, image, ())
    return ours


def excess(counted: Instructions, baseline: Instructions) -> list[str]:
    """In words what takes too many; empty when all is well."""
    figures = {
        "an answer": (counted.per_answer, baseline.per_answer),
        "start and first answer": (float(counted.first), float(baseline.first)),
    }
    return [
        f"{what} takes {now / 1e6:.2f} million instructions, {now / was - 1:+.1%} of the baseline's {was / 1e6:.2f}, "
        f"at most {AT_MOST - 1:+.0%} allowed; make it cheaper, or write the baseline anew with --refresh"
        for what, (now, was) in figures.items()
        if now > AT_MOST * was
    ]


def main() -> int:
    """Count and compare, or write the baseline; 1 when it takes too many."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--refresh", action="store_true", help="write the baseline instead")
    refresh = parser.parse_args().refresh
    known = None if refresh else json.loads(BASELINE.read_text())
    if known and known["packages"] != packages():
        print(f"instructions: not compared: the baseline is of {known['packages']}, this is {packages()}")
        return EXIT_DONE
    try:
        counted = count()
    except MachineError as exc:
        print(f"instructions: not counted: {exc}")
        return EXIT_DONE
    if refresh:
        BASELINE.parent.mkdir(exist_ok=True)
        table = {"packages": packages(), "counted": dataclasses.asdict(counted)}
        BASELINE.write_text(json.dumps(table, indent=1) + "\n")
        return EXIT_DONE
    found = excess(counted, Instructions(**known["counted"]))
    for line in found:
        print(f"instructions: {line}", file=sys.stderr)
    return EXIT_GATE_FAILED if found else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
