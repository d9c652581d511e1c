"""One adapter over the TFLite interpreters: ai-edge-litert on 64-bit machines, tflite-runtime elsewhere."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.cores import MAX_THREADS, usable_cores
from slimscan_edge.errors import InputError, InterpreterError

_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        shape: Size of each axis.
        dtype: NumPy's name of the element type.
        scale: Real value of one integer step; 0 when the tensor is not quantised.
        zero_point: Integer that stands for the real value 0.
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    def real_values(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Real values of a tensor: `scale * (integer - zero_point)`, or the floats themselves."""
        if self.scale == 0.0:
            return tensor.astype(np.float32)
        return (tensor.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


class Interpreter:
    """A loaded TFLite model: uint8 pixels in, the raw output tensors out. Not thread-safe.

    Attributes:
        threads: Threads of one inference.
        input: The model's one input.
        outputs: The model's outputs, in the file's order.
    """

    def __init__(self, model: bytes, *, threads: int | None = None) -> None:
        """Load a model from memory.

        Args:
            model: The bytes of a `.tflite` file.
            threads: Threads for one inference; when None all cores but one, up to four: one is left for reading images.

        Raises:
            InputError: More threads are asked for than `MAX_THREADS`, or fewer than one.
            InterpreterError: No interpreter is installed, or it refuses the model.
        """
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise InputError(f"got {threads} threads, expected 1 to {MAX_THREADS}")
        module = import_interpreter()
        self._package = package_of(module)
        self.threads = threads or default_threads()
        try:
            self._interpreter = module.Interpreter(model_content=model, num_threads=self.threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as exc:
            raise InterpreterError(f"{self._package} refuses the model: {exc}") from exc
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise InterpreterError(f"the model has {len(inputs)} inputs, expected one")
        outputs = self._interpreter.get_output_details()
        self._input_index: int = inputs[0]["index"]
        self._output_indices: tuple[int, ...] = tuple(detail["index"] for detail in outputs)
        self.input = _tensor_spec(inputs[0])
        self.outputs = tuple(_tensor_spec(detail) for detail in outputs)

    @property
    def backend(self) -> str:
        """The package that runs the model, with its version."""
        return describe_package(self._package)

    @property
    def runs_xnnpack(self) -> bool:
        """Whether int8 models run through XNNPACK; tflite-runtime runs them with TFLite's own kernels."""
        return self._package == "ai_edge_litert"

    def invoke(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        """Run the model once.

        Args:
            pixels: uint8 `[1, H, W, C]`, as the model's input.

        Returns:
            A copy of each output tensor, in the order of `outputs`.
        """
        self.run(pixels)
        return tuple(self._interpreter.get_tensor(index) for index in self._output_indices)

    def run(self, pixels: NDArray[np.uint8]) -> None:
        """Run the model once, as `invoke` does, and copy nothing out of it."""
        self._interpreter.set_tensor(self._input_index, pixels)
        self._interpreter.invoke()


def default_threads() -> int:
    """Threads of one inference where nothing is said: all cores that may be used but one, up to four."""
    return max(1, min(4, usable_cores() - 1))


def import_interpreter() -> Any:
    """Import the interpreter package that this machine has.

    Raises:
        InterpreterError: None is installed, or the installed one does not load.
    """
    for name in _MODULES:
        try:
            return importlib.import_module(name)
        except ImportError as exc:
            if isinstance(exc, ModuleNotFoundError) and exc.name in (name, name.split(".")[0]):
                continue
            raise InterpreterError(f"{name} is installed but does not load: {exc}") from exc
    raise InterpreterError(
        "no TFLite interpreter is installed; run: pip install ai-edge-litert "
        "(on 32-bit ARM: pip install tflite-runtime 'numpy<2')"
    )


def package_of(module: Any) -> str:
    """The top package of an imported module."""
    name: str = module.__name__
    return name.split(".")[0]


def describe_package(package: str) -> str:
    """The distribution that brings a package, with its version: a nightly's is called otherwise than a release's."""
    from importlib import metadata  # not at import: it costs a cold start several milliseconds

    try:
        return f"{package} {metadata.version(package.replace('_', '-'))}"
    except metadata.PackageNotFoundError:
        found = metadata.packages_distributions().get(package, [])
        return f"{found[0]} {metadata.version(found[0])}" if found else f"{package} of unknown version"


def _tensor_spec(detail: dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        shape=tuple(int(size) for size in detail["shape"]),
        dtype=np.dtype(detail["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )
