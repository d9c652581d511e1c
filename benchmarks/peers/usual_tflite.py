"""The usual way to run a `.tflite` file, whichever package the interpreter comes from.

As in https://ai.google.dev/edge/litert/inference: allocate, normalise and quantise the input by its scale and zero
point, set, invoke, get, dequantise.
"""

from typing import Any

import numpy as np
from protocol import Step


class UsualTflite:
    """A loaded model.

    Args:
        interpreter: Of whichever package; its tensors are allocated here.
        logits_at: Which of its outputs holds the logits.
    """

    def __init__(self, interpreter: Any, logits_at: int) -> None:
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]
        self._output = interpreter.get_output_details()[logits_at]

    def logit(self, pixels: np.ndarray[Any, np.dtype[np.float32]], step: Step) -> float:
        """The positive label's logit.

        Args:
            pixels: float32 `[H, W, C]`, 0 to 255.
            step: Called after preparing and after invoking.
        """
        scale, zero_point = self._input["quantization"]
        normalised = (pixels - 128.0) / 127.5  # as the model was trained
        quantised = np.clip(np.round(normalised / scale + zero_point), 0, 255).astype(self._input["dtype"])
        step("prepare")
        self._interpreter.set_tensor(self._input["index"], quantised[np.newaxis])
        self._interpreter.invoke()
        scale, zero_point = self._output["quantization"]
        logits = scale * (self._interpreter.get_tensor(self._output["index"]).astype(np.float32) - zero_point)
        step("invoke")
        return float(logits[0, 0])
