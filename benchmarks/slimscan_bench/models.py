"""What `slimscan compare` compares: a run, a bundle, a bare `.tflite` or ONNX, each as a model that scores pixels."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimscan_bench.peers.onnx_properties import onnx_properties
from slimscan_edge.bundle import SUFFIX, read_bundle
from slimscan_edge.errors import InputError, MissingExtraError
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.operating_point import OperatingPoint
from slimscan_edge.preprocess import PreprocessSpec
from slimscan_train.split import Split

Kind = Literal["run", "bundle", "tflite", "onnx"]
Score = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""From preprocessed pixels uint8 `[N, H, W, C]` to the decision's logits, float64 `[N]`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A model with all that turns an image into a decision.

    Attributes:
        name: As it was given.
        kind: What it was read from.
        sha256: Of the bundle, the `.tflite` or `.onnx`, or the run's `model.keras`, hexadecimal.
        size_bytes: Of the model alone.
        preprocess: How an image becomes its input.
        operating_point: How its logit becomes a decision.
        labels: The negative and the positive class.
        note: What a reader must know of it; empty when nothing.
        split: Of a run, who trained it; None when the file does not say.
        score: What computes its logits.
    """

    name: str
    kind: Kind
    sha256: str
    size_bytes: int
    preprocess: PreprocessSpec
    operating_point: OperatingPoint
    labels: tuple[str, str]
    note: str
    split: Split | None
    score: Score


def read_models(reference: Path, candidate: Path) -> tuple[Model, Model]:
    """Read the two models of a comparison.

    A bare file (`.tflite`, or ONNX that was not written by slimscan) has neither preprocessing nor threshold: it takes
    both from the other one, and its `note` says so.

    Raises:
        InputError: A file is absent or no model, both are bare, their labels differ, or the bare one's tensors do
            not fit the other's preprocessing.
        MissingExtraError: A run is given and TensorFlow is not installed, or ONNX and not ONNX Runtime.
    """
    if _is_bare(reference) and _is_bare(candidate):
        raise InputError(
            "both models are bare files, which have neither preprocessing nor threshold; "
            "give the run or the bundle of at least one"
        )
    if _is_bare(reference):
        other = _read(candidate)
        return _bare(reference, other), other
    one = _read(reference)
    other = _bare(candidate, one) if _is_bare(candidate) else _read(candidate)
    if one.labels != other.labels:
        raise InputError(
            f"{one.name} tells {one.labels} apart, {other.name} {other.labels}; compare models of one task"
        )
    return one, other


def tflite_score(model: bytes) -> Score:
    """The decision's logits of a `.tflite` model, int8 or float; arguments and errors as for `tflite_logits`."""
    logits = tflite_logits(model)
    return lambda pixels: logits(pixels)[:, 0]


def tflite_logits(model: bytes) -> Score:
    """The scoring function of a `.tflite` model, int8 or float: all logits, float64 `[N, K]`.

    Args:
        model: The file's bytes. Input uint8 (raw pixels) or float32 (pixels as training normalises them); one output
            `[1, K]`, the logits, the first of which is the decision's.

    Raises:
        InputError: Its input or outputs are none of these.
        InterpreterError: The interpreter refuses it.
    """
    interpreter = Interpreter(model)
    logits_at = [i for i, spec in enumerate(interpreter.outputs) if len(spec.shape) == 2]
    if interpreter.input.dtype not in ("uint8", "float32") or len(logits_at) != 1:
        raise InputError(
            f"the model takes {interpreter.input.dtype} and gives {[list(s.shape) for s in interpreter.outputs]}; "
            "expected uint8 or float32 pixels and one output [1, K] of logits"
        )
    spec = interpreter.outputs[logits_at[0]]

    def score(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        inputs = (_as_input(one[np.newaxis], interpreter.input.dtype) for one in pixels)
        tensors = (interpreter.invoke(one)[logits_at[0]] for one in inputs)
        return np.array([spec.real_values(tensor)[0] for tensor in tensors], dtype=np.float64)

    return score


def onnx_score(model: bytes, *, name: str) -> tuple[Score, tuple[int, ...]]:
    """The decision's logits of an ONNX model by ONNX Runtime, and the pixels `(H, W, C)` that it takes.

    Args:
        model: The file's bytes. One input `[N, H, W, C]`, uint8 (raw pixels) or float32 (pixels as training normalises
            them); one output `[N, K]`, the logits, the first of which is the decision's.
        name: Of the file, for messages.

    Raises:
        InputError: It is no such model.
        MissingExtraError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingExtraError(
            "compare with an ONNX model", "onnx", (exc.name or "onnxruntime").split(".")[0]
        ) from exc
    try:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as exc:  # its errors have no common base
        raise InputError(f"{name} is no model that ONNX Runtime reads ({str(exc).splitlines()[0]})") from exc
    inputs, outputs = session.get_inputs(), session.get_outputs()
    logits = [output.name for output in outputs if len(output.shape) == 2]
    dtype = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}.get(inputs[0].type)
    shape = tuple(inputs[0].shape[1:])
    if (
        len(inputs) != 1
        or dtype is None
        or len(logits) != 1
        or len(shape) != 3
        or not all(isinstance(n, int) for n in shape)
    ):
        raise InputError(
            f"{name} takes {[(i.type, i.shape) for i in inputs]} and gives {[o.shape for o in outputs]}; expected "
            "uint8 or float32 pixels [N, H, W, C] and one output [N, K] of logits"
        )

    def score(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        feeds = ({inputs[0].name: _as_input(one[np.newaxis], dtype)} for one in pixels)
        return np.array([session.run(logits, feed)[0][0, 0] for feed in feeds], dtype=np.float64)

    return score, shape


def describe_model(model: Model) -> dict[str, Any]:
    """What a report says of a model, as plain values."""
    point = model.operating_point
    return {
        "name": model.name,
        "kind": model.kind,
        "sha256": model.sha256,
        "size_bytes": model.size_bytes,
        "threshold": point.threshold,
        "temperature": point.temperature,
        "bias": point.bias,
        "logit_threshold": point.logit_threshold,
        "threshold_chosen_on": point.chosen_on,
        "note": model.note,
    }


_SUFFIXES: dict[str, Kind] = {SUFFIX: "bundle", ".tflite": "tflite", ".onnx": "onnx"}


def _kind(path: Path) -> Kind:
    if path.is_dir():
        return "run"
    if path.suffix not in _SUFFIXES:
        raise InputError(f"{path} is no model; expected a run folder, a bundle ({SUFFIX}), a .tflite or an .onnx file")
    return _SUFFIXES[path.suffix]


def _is_bare(path: Path) -> bool:
    kind = _kind(path)
    return kind == "tflite" or (kind == "onnx" and "operating_point" not in _properties(path))


def _properties(path: Path) -> dict[str, str]:
    return onnx_properties(_content(path), name=str(path))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise InputError(f"{path} cannot be read ({exc.strerror or exc}); give the file of a model") from exc


def _read(path: Path) -> Model:
    readers = {"run": _read_run, "bundle": _read_bundle, "onnx": _read_onnx}
    return readers[_kind(path)](path)


def _read_onnx(path: Path) -> Model:
    """An ONNX twin, which says itself how images become its input and its logits decisions."""
    content, properties = _content(path), _properties(path)
    try:
        preprocess = PreprocessSpec(**json.loads(properties["preprocess"]))
        point = OperatingPoint(**json.loads(properties["operating_point"]))
        negative, positive = json.loads(properties["labels"])
    except (KeyError, TypeError, ValueError) as exc:
        raise InputError(f"{path} describes itself in another way than this slimscan ({exc}); export it again") from exc
    return Model(
        name=str(path),
        kind="onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        preprocess=preprocess,
        operating_point=point,
        labels=(negative, positive),
        note="",
        split=None,
        score=_fitting(path, content, preprocess, "its own preprocessing"),
    )


def _read_run(folder: Path) -> Model:
    from slimscan_train.run import read_run

    run = read_run(folder)
    try:
        network = run.model()
    except ModuleNotFoundError as exc:
        raise MissingExtraError("compare with a run", "train", (exc.name or "").split(".")[0]) from exc

    def score(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        from slimscan_train.fit import predict_logits

        return predict_logits(network, pixels)[:, 0]

    content = (folder / "model.keras").read_bytes()
    return Model(
        name=str(folder),
        kind="run",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        preprocess=run.config.preprocess,
        operating_point=run.operating_point,
        labels=run.split.labels,
        note="",
        split=run.split,
        score=score,
    )


def _read_bundle(path: Path) -> Model:
    # What failed its gates may be looked at here: finding out why is what a comparison is for.
    bundle = read_bundle(path, allow_failed=True)
    manifest = bundle.manifest
    return Model(
        name=str(path),
        kind="bundle",
        sha256=bundle.sha256,
        size_bytes=len(bundle.model),
        preprocess=manifest.preprocess,
        operating_point=manifest.operating_point,
        labels=manifest.labels,
        note="" if manifest.verdict == "PASS" else f"its gates say {manifest.verdict}",
        split=None,
        score=tflite_score(bundle.model),
    )


def _bare(path: Path, lender: Model) -> Model:
    content = _content(path)
    return Model(
        name=str(path),
        kind=_kind(path),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        preprocess=lender.preprocess,
        operating_point=lender.operating_point,
        labels=lender.labels,
        note=f"preprocessing and threshold are those of {lender.name}",
        split=None,
        score=_fitting(path, content, lender.preprocess, f"the preprocessing of {lender.name}"),
    )


def _fitting(path: Path, content: bytes, spec: PreprocessSpec, whose: str) -> Score:
    """The scoring function of a bare file, once its input is seen to be what the preprocessing gives."""
    if _kind(path) == "onnx":
        score, found = onnx_score(content, name=str(path))
    else:
        score, found = tflite_score(content), Interpreter(content).input.shape[1:]
    if found != (expected := (spec.height, spec.width, spec.channels)):
        raise InputError(
            f"{path} takes pixels {list(found)}, but {whose} gives {list(expected)}; "
            "compare it with a model of its own input size"
        )
    return score


def _as_input(pixels: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
    from slimscan_train.model import PIXEL_CENTRE, PIXEL_SCALE

    if dtype == "uint8":
        return pixels
    normalised: NDArray[np.float32] = ((pixels.astype(np.float32) - PIXEL_CENTRE) / PIXEL_SCALE).astype(np.float32)
    return normalised
