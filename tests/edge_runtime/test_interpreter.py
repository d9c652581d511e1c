import sys
from importlib import metadata

import numpy as np
import pytest

from slimscan_edge import cores, interpreter
from slimscan_edge.errors import InputError, InterpreterError
from slimscan_edge.interpreter import Interpreter, TensorSpec, describe_package, import_interpreter, package_of


def test_real_values_are_scale_times_distance_from_the_zero_point():
    spec = TensorSpec(shape=(1, 3), dtype="int8", scale=0.5, zero_point=-10)
    assert spec.real_values(np.array([[-128, -10, 127]], np.int8)).tolist() == [[-59.0, 0.0, 68.5]]


def test_a_tensor_that_is_not_quantised_holds_its_real_values():
    spec = TensorSpec(shape=(1, 2), dtype="float32")
    assert spec.real_values(np.array([[1.5, -2.0]], np.float32)).tolist() == [[1.5, -2.0]]


def test_the_model_describes_its_tensors(golden_bundle):
    loaded = Interpreter(golden_bundle.model)
    assert loaded.input == golden_bundle.manifest.input
    assert loaded.input.scale == pytest.approx(1 / 127.5)
    assert loaded.input.zero_point == 128
    assert loaded.outputs == golden_bundle.manifest.outputs


def test_outputs_are_copies(golden_bundle):
    loaded = Interpreter(golden_bundle.model, threads=1)
    first = loaded.invoke(np.full((1, 32, 32, 1), 0, np.uint8))
    before = [tensor.copy() for tensor in first]
    loaded.invoke(np.full((1, 32, 32, 1), 255, np.uint8))
    assert all((tensor == kept).all() for tensor, kept in zip(first, before, strict=True))


def test_the_backend_is_named_with_its_version(golden_bundle):
    package = package_of(import_interpreter())
    assert Interpreter(golden_bundle.model).backend == describe_package(package)
    assert describe_package("numpy") == f"numpy {np.__version__}"


@pytest.mark.parametrize(("usable", "threads"), [(1, 1), (2, 1), (4, 3), (16, 4)])
def test_one_core_that_may_be_used_is_left_for_reading(golden_bundle, monkeypatch, usable, threads):
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda process: set(range(usable)), raising=False)
    assert Interpreter(golden_bundle.model).threads == threads


@pytest.mark.parametrize(("count", "threads"), [(None, 1), (1, 1), (4, 3)])
def test_all_cores_may_be_used_where_no_affinity_is_known(monkeypatch, count, threads):
    monkeypatch.delattr(cores.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cores.os, "cpu_count", lambda: count)
    assert interpreter.default_threads() == threads


@pytest.mark.parametrize("threads", [0, -1, 257, 100_000, 3_000_000_000])
def test_more_threads_than_it_survives_are_refused(golden_bundle, threads):
    with pytest.raises(InputError, match=f"got {threads} threads, expected 1 to 256"):
        Interpreter(golden_bundle.model, threads=threads)


def test_a_nightly_is_named_by_what_it_is_called(monkeypatch):
    def version(name):
        if name != "ai-edge-litert-nightly":
            raise metadata.PackageNotFoundError(name)
        return "3.0.0.dev1"

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"ai_edge_litert": ["ai-edge-litert-nightly"]})
    assert describe_package("ai_edge_litert") == "ai-edge-litert-nightly 3.0.0.dev1"
    assert describe_package("tflite_runtime") == "tflite_runtime of unknown version"


@pytest.mark.parametrize("model", [b"", b"not a model", bytes(1000)])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(InterpreterError, match="refuses the model"):
        Interpreter(model)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two interpreter packages that do not exist until a test writes them."""
    monkeypatch.setattr(interpreter, "_MODULES", ("first_lite.interpreter", "second_lite.interpreter"))
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, source):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "interpreter.py").write_text(source)

    yield write
    for name in ("first_lite", "second_lite"):
        sys.modules.pop(name, None)
        sys.modules.pop(f"{name}.interpreter", None)


def test_without_any_interpreter_it_says_what_to_install(packages):
    with pytest.raises(InterpreterError, match=r"pip install ai-edge-litert .*pip install tflite-runtime 'numpy<2'"):
        import_interpreter()


def test_the_second_is_taken_where_the_first_is_absent(packages):
    packages("second_lite", "")
    assert package_of(import_interpreter()) == "second_lite"


def test_the_first_is_preferred(packages):
    packages("first_lite", "")
    packages("second_lite", "")
    assert package_of(import_interpreter()) == "first_lite"


def test_ai_edge_litert_runs_xnnpack(golden_bundle):
    assert Interpreter(golden_bundle.model).runs_xnnpack


def test_another_package_does_not_run_xnnpack(golden_bundle, packages):
    packages("second_lite", "from ai_edge_litert.interpreter import Interpreter")
    assert not Interpreter(golden_bundle.model).runs_xnnpack


@pytest.mark.parametrize(
    "source", ["raise ImportError('libstdc++.so.6 is too old')", "import a_package_that_is_absent"]
)
def test_one_that_is_installed_but_does_not_load_is_told_rather_than_passed_over(packages, source):
    packages("first_lite", source)
    packages("second_lite", "")
    with pytest.raises(InterpreterError, match=r"first_lite\.interpreter is installed but does not load"):
        import_interpreter()
