"""OpenVINO on the ONNX twin: as in https://docs.openvino.ai, "Integrate OpenVINO with your application"."""

import numpy as np
import openvino
from protocol import Step, read_job, serve
from usual_pixels import real_pixels

job = read_job()
properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job["threads"]}
compiled = openvino.Core().compile_model(job["model"], "CPU", properties)
request = compiled.create_infer_request()


def answer(path: str, step: Step) -> float:
    """From file to logit."""
    pixels = np.round(real_pixels(path, job, step)).astype(np.uint8)  # the twin normalises inside
    step("prepare")
    logits = request.infer({"pixels": pixels[np.newaxis]})["logits"]
    step("invoke")
    return float(logits[0, 0])


serve(answer, "openvino", "numpy", "pillow")
