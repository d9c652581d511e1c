"""ONNX Runtime on the ONNX twin, float or quantised: as in https://onnxruntime.ai/docs/get-started/with-python.html."""

import numpy as np
import onnxruntime
from protocol import Step, read_job, serve
from usual_pixels import real_pixels

job = read_job()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = job["threads"]
session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])


def answer(path: str, step: Step) -> float:
    """From file to logit."""
    pixels = np.round(real_pixels(path, job, step)).astype(np.uint8)  # the twin normalises inside
    step("prepare")
    (logits,) = session.run(["logits"], {"pixels": pixels[np.newaxis]})
    step("invoke")
    return float(logits[0, 0])


serve(answer, "onnxruntime", "numpy", "pillow")
