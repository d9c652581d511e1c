"""The floor: a JPEG decoded reduced, resized, and the bare interpreter; nothing checked, nothing normalised."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from protocol import Step, read_job, serve

job = read_job()
interpreter = Interpreter(model_path=job["model"], num_threads=job["threads"])
interpreter.allocate_tensors()
pixels_at = interpreter.get_input_details()[0]["index"]
logits = interpreter.get_output_details()[job["logits_at"]]
scale, zero_point = logits["quantization"]
mode = "L" if job["channels"] == 1 else "RGB"
size = (job["width"], job["height"])
shape = (1, job["height"], job["width"], job["channels"])


def answer(path: str, step: Step) -> float:
    """From file to logit."""
    image = Image.open(path)
    if job["jpeg_oversample"]:
        image.draft(mode, (size[0] * job["jpeg_oversample"], size[1] * job["jpeg_oversample"]))
    image = image.convert(mode)
    step("decode")
    pixels = np.asarray(image.resize(size, Image.Resampling[job["resize_filter"].upper()])).reshape(shape)
    step("prepare")
    interpreter.set_tensor(pixels_at, pixels)
    interpreter.invoke()
    logit = scale * (float(interpreter.get_tensor(logits["index"])[0, 0]) - zero_point)
    step("invoke")
    return logit


serve(answer, "ai-edge-litert", "numpy", "pillow")
