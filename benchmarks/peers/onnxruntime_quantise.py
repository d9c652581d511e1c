"""FLOAT INT8 JOB, a JSON list of image paths on standard input: ONNX Runtime's own static quantisation of an ONNX twin.

As in https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html: pre-process, then QDQ with int8
activations and weights, one scale a channel, calibrated by least and greatest.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from usual_pixels import real_pixels


def _passed(stage: str, ns: int | None = None) -> None:
    """A step that notes nothing."""


class Images(CalibrationDataReader):
    """The calibration images, one at a time."""

    def __init__(self, paths: list[str], job: dict[str, Any]) -> None:
        self._paths, self._job = iter(paths), job

    def get_next(self) -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]] | None:
        """Pixels as the twin takes them; None at the end."""
        path = next(self._paths, None)
        if path is None:
            return None
        pixels = np.round(real_pixels(path, self._job, _passed)).astype(np.uint8)
        return {"pixels": pixels[np.newaxis]}


given, wanted, job = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
prepared = wanted.with_suffix(".prepared.onnx")
quant_pre_process(str(given), str(prepared))
quantize_static(
    str(prepared),
    str(wanted),
    Images(json.load(sys.stdin), job),
    quant_format=QuantFormat.QDQ,
    activation_type=QuantType.QInt8,
    weight_type=QuantType.QInt8,
    per_channel=True,
)
