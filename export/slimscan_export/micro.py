"""The model on a microcontroller: what TFLite Micro's interpreter needs and answers.

TFLite Micro runs a model in one block of memory, the arena, that a firmware sets aside when it is built. Its package
`tflite-micro` is the same C++ interpreter with the reference kernels, so that arena and integers are those of a board
(kernels made for a board's processor may want some scratch memory besides).

An int8 kernel rounds when it goes from sums of products back to 8 bits, and not all round alike: TFLite Micro gives
the integers of TFLite's reference kernels, XNNPACK (what a 64-bit device runs) its own. After a dozen residual sums
the two may lie a few steps apart (docs/decisions/0005-two-sets-of-kernels.md), so a model is compared with both.
"""

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.bundle import Bundle
from slimscan_edge.errors import InputError, MachineError, MissingExtraError, SlimscanError
from slimscan_edge.golden import EXPECTED, OTHER_KERNELS_STEPS, TOLERANCE_STEPS
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.notices import stderr_into
from slimscan_edge.preprocess import preprocess

LARGEST_ARENA_BYTES = 64 * 2**20
"""What a model may take while it is measured; no microcontroller has as much."""

_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroCheck:
    """A bundle's model in TFLite Micro.

    Attributes:
        arena_bytes: Memory that the model takes besides its file, which is read where it lies in flash.
        images: Golden images run.
        reference_steps: Largest difference from ai-edge-litert's reference kernels, by role of the output, in steps.
        golden_steps: Largest difference from the bundle's golden integers, which are XNNPACK's; likewise.
    """

    arena_bytes: int
    images: int
    reference_steps: Mapping[str, int]
    golden_steps: Mapping[str, int]

    @property
    def passed(self) -> bool:
        """Both sets of kernels are met as closely as the self-test wants of a device that runs them."""
        reference, golden = max(self.reference_steps.values()), max(self.golden_steps.values())
        return reference <= TOLERANCE_STEPS and golden <= OTHER_KERNELS_STEPS


def arena_bytes(model: bytes) -> int:
    """Bytes of arena that a model takes in TFLite Micro, by its recording allocator.

    Raises:
        InputError: TFLite Micro does not run the model.
        InterpreterError: It is no model.
        MissingExtraError: tflite-micro is not installed.
    """
    interpreter = _load(model, LARGEST_ARENA_BYTES)
    with tempfile.TemporaryFile() as said:
        with stderr_into(said):
            interpreter.print_allocations()
        text = _text(said)
    found = _TOTAL.search(text)
    if not found:
        raise MachineError(f"tflite-micro tells no arena ({text.strip()[-200:]!r}); install another version of it")
    return int(found[1])


def arena_bytes_or_none(model: bytes) -> int | None:
    """As `arena_bytes`; None where TFLite Micro is not installed or does not run the model."""
    try:
        return arena_bytes(model)
    except SlimscanError:
        return None


def micro_outputs(
    model: bytes, pixels: NDArray[np.uint8], *, arena_size: int = LARGEST_ARENA_BYTES
) -> tuple[NDArray[Any], ...]:
    """What TFLite Micro answers.

    Args:
        model: A `.tflite` file with one uint8 input.
        pixels: uint8 `[N, H, W, C]`, at least one.
        arena_size: Bytes of the arena.

    Returns:
        Each output in the file's order, `[N, ...]`, as the integers it holds.

    Raises:
        InputError: TFLite Micro does not run the model, or not in that arena.
        InterpreterError: It is no model.
        MissingExtraError: tflite-micro is not installed.
    """
    interpreter = _load(model, arena_size)
    count = len(Interpreter(model).outputs)

    def invoke(image: NDArray[np.uint8]) -> list[NDArray[Any]]:
        interpreter.set_input(image, 0)
        interpreter.invoke()
        return [interpreter.get_output(index) for index in range(count)]

    return _stacked(invoke, pixels)


def reference_outputs(model: bytes, pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
    """As `micro_outputs`, by the reference kernels of ai-edge-litert instead of XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter as LiteInterpreter
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = LiteInterpreter(model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def invoke(image: NDArray[np.uint8]) -> list[NDArray[Any]]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return _stacked(invoke, pixels)


def check_micro(bundle: Bundle) -> MicroCheck:
    """Run a bundle's model and golden images in TFLite Micro.

    Raises:
        InputError: TFLite Micro does not run the model.
        MissingExtraError: tflite-micro is not installed.
    """
    golden: dict[str, dict[str, list[int]]] = json.loads(bundle.members[EXPECTED])
    pixels = np.stack([preprocess(bundle.members[image], bundle.manifest.preprocess) for image in golden])
    roles = bundle.manifest.output_roles
    answered = dict(zip(roles, micro_outputs(bundle.model, pixels), strict=True))
    reference = dict(zip(roles, reference_outputs(bundle.model, pixels), strict=True))
    expected = {role: np.array([golden[image][role] for image in golden]) for role in roles}
    return MicroCheck(
        arena_bytes=arena_bytes(bundle.model),
        images=len(golden),
        reference_steps={role: _steps(answered[role], reference[role]) for role in roles},
        golden_steps={role: _steps(answered[role], expected[role]) for role in roles},
    )


def _steps(left: NDArray[Any], right: NDArray[Any]) -> int:
    flat = left.reshape(len(left), -1).astype(np.int64), right.reshape(len(right), -1).astype(np.int64)
    return int(np.abs(flat[0] - flat[1]).max())


def _stacked(
    invoke: Callable[[NDArray[np.uint8]], list[NDArray[Any]]], pixels: NDArray[np.uint8]
) -> tuple[NDArray[Any], ...]:
    answers = [invoke(image[np.newaxis]) for image in pixels]
    return tuple(np.concatenate(output) for output in zip(*answers, strict=True))


def _load(model: bytes, arena_size: int) -> Any:
    try:
        from tflite_micro import runtime
    except ImportError as exc:
        raise MissingExtraError("the microcontroller's check", "export", "tflite-micro") from exc
    Interpreter(model)  # it verifies the bytes; TFLite Micro trusts them
    with tempfile.TemporaryFile() as said:
        try:
            with stderr_into(said):
                return runtime.Interpreter.from_bytes(model, arena_size=arena_size)
        except RuntimeError as exc:
            reason = [str(exc), *filter(None, map(str.strip, _text(said).splitlines()))][-1]
            raise InputError(f"TFLite Micro does not run the model in {arena_size:,} bytes of arena: {reason}") from exc


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
