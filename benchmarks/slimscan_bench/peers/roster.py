"""Who is measured: every peer's script and packages, the floor and ours.

The scripts and the pinned packages lie in `benchmarks/peers/` of a checkout; an installed wheel has none of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slimscan_edge.errors import InputError

FOLDER = Path(__file__).parents[2] / "peers"
OURS = "slimscan"
FLOOR = "floor"
TENSORFLOW = "tensorflow"

ModelKind = Literal["bundle", "tflite", "onnx", "onnx_int8", "mobile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One way from an image file to an answer.

    Attributes:
        title: For people.
        script: File in `FOLDER` that speaks `protocol.py` there.
        requirements: File in `FOLDER` with its pinned packages.
        model: What it loads.
        way: How it goes from file to answer, in words.
    """

    title: str
    script: str
    requirements: str
    model: ModelKind
    way: str


_PILLOW = "Pillow decodes in full and resizes, NumPy normalises"
ROSTER: Mapping[str, Peer] = {
    OURS: Peer(
        title="slimscan",
        script="slimscan_classifier.py",
        requirements="litert.txt",
        model="bundle",
        way="reduced decoding, the guard, the evidence map, every check",
    ),
    FLOOR: Peer(
        title="floor",
        script="floor.py",
        requirements="litert.txt",
        model="tflite",
        way="reduced decoding and the bare interpreter; nothing normalised, nothing checked: it may be wrong",
    ),
    "litert": Peer(
        title="LiteRT script",
        script="litert.py",
        requirements="litert.txt",
        model="tflite",
        way=f"{_PILLOW}, ai-edge-litert runs",
    ),
    "tflite-runtime": Peer(
        title="tflite-runtime",
        script="tflite_runtime_script.py",
        requirements="tflite_runtime.txt",
        model="tflite",
        way=f"{_PILLOW}, tflite-runtime runs",
    ),
    TENSORFLOW: Peer(
        title="TensorFlow",
        script="full_tensorflow.py",
        requirements="tensorflow.txt",
        model="tflite",
        way="tf.io decodes, tf.image resizes with antialiasing, tf.lite.Interpreter runs",
    ),
    "onnxruntime": Peer(
        title="ONNX Runtime",
        script="onnxruntime_script.py",
        requirements="onnxruntime.txt",
        model="onnx",
        way=f"{_PILLOW}, ONNX Runtime runs the float twin",
    ),
    "onnxruntime-int8": Peer(
        title="ONNX Runtime int8",
        script="onnxruntime_script.py",
        requirements="onnxruntime.txt",
        model="onnx_int8",
        way=f"{_PILLOW}, ONNX Runtime runs what its own static quantiser made of the twin",
    ),
    "openvino": Peer(
        title="OpenVINO",
        script="openvino_script.py",
        requirements="openvino.txt",
        model="onnx",
        way=f"{_PILLOW}, OpenVINO runs the float twin",
    ),
    "mediapipe": Peer(
        title="MediaPipe Tasks",
        script="mediapipe_tasks.py",
        requirements="mediapipe.txt",
        model="mobile",
        way="Pillow decodes in full to RGB, the image classifier resizes and runs the three-channel twin",
    ),
}
PEERS = tuple(name for name in ROSTER if name not in (OURS, FLOOR))


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Ours, the floor and the peers that are named, in the roster's order; all peers for no name.

    Raises:
        InputError: A name is none of a peer, or this is no checkout.
    """
    for name in names:
        if name not in PEERS:
            raise InputError(f"no peer is called {name!r}; known are {', '.join(PEERS)}")
    if not FOLDER.is_dir():
        raise InputError(f"the peers' scripts are not at {FOLDER}; run this from a checkout of the source")
    return tuple(name for name in ROSTER if name not in PEERS or not names or name in names)
