"""What the scripts on `.tflite` files give the network; they run in environments of their own."""

import runpy
import sys
from types import SimpleNamespace

import numpy as np

from slimscan_bench.peers.roster import FOLDER


class Recorder:
    """An interpreter that keeps its input and answers 0."""

    def allocate_tensors(self):
        pass

    def get_input_details(self):
        return [{"index": 0, "quantization": (1 / 127.5, 128), "dtype": np.uint8}]

    def get_output_details(self):
        return [{"index": 1, "quantization": (0.1, 0)}]

    def set_tensor(self, index, pixels):
        self.pixels = pixels

    def invoke(self):
        pass

    def get_tensor(self, index):
        return np.zeros((1, 1), np.int8)


def test_whole_pixels_enter_the_network_untouched(monkeypatch):
    monkeypatch.setitem(sys.modules, "protocol", SimpleNamespace(Step=object))
    usual = runpy.run_path(str(FOLDER / "usual_tflite.py"))["UsualTflite"]
    levels, interpreter = np.arange(256).reshape(16, 16, 1), Recorder()
    usual(interpreter, 0).logit(levels.astype(np.float32), lambda *_: None)
    assert (interpreter.pixels == levels[np.newaxis]).all()
