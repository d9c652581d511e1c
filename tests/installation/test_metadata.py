"""What pip is offered on which machine is what has wheels there."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def offered(machine: str, release: str) -> dict[str, str]:
    environment = {"platform_machine": machine, "python_version": release, "python_full_version": f"{release}.0"}
    found = [Requirement(line) for line in PROJECT["dependencies"]]
    chosen = [one for one in found if one.marker is None or one.marker.evaluate(environment)]
    assert len({one.name for one in chosen}) == len(chosen)  # a package is asked for once
    return {one.name: str(one.specifier) for one in chosen}


@pytest.mark.parametrize(
    ("machine", "release", "interpreter", "numpy"),
    [
        ("x86_64", "3.11", "ai-edge-litert", 2),
        ("x86_64", "3.13", "ai-edge-litert", 2),
        ("aarch64", "3.11", "ai-edge-litert", 2),
        ("arm64", "3.13", "ai-edge-litert", 2),
        ("armv7l", "3.11", "tflite-runtime", 1),
        ("armv8l", "3.11", "tflite-runtime", 1),
        ("armv7l", "3.12", None, 2),
        ("armv8l", "3.13", None, 2),
        ("armv6l", "3.11", None, 2),
        ("armv6l", "3.13", None, 2),
    ],
)
def test_interpreter_and_numpy(machine: str, release: str, interpreter: str | None, numpy: int) -> None:
    found = offered(machine, release)
    assert found.keys() - {"numpy", "pillow"} == ({interpreter} if interpreter else set())
    assert ("<2" in found["numpy"]) == (numpy == 1)


def test_no_pydicom_that_looks_for_the_network_when_it_is_imported() -> None:
    (pydicom,) = (line for line in PROJECT["optional-dependencies"]["dicom"] if line.startswith("pydicom"))
    assert "3.0.0" not in Requirement(pydicom).specifier
    assert "3.0.1" in Requirement(pydicom).specifier
