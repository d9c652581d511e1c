"""A plain ai-edge-litert script: Pillow, NumPy and the interpreter."""

from ai_edge_litert.interpreter import Interpreter
from protocol import Step, read_job, serve
from usual_pixels import real_pixels
from usual_tflite import UsualTflite

job = read_job()
model = UsualTflite(Interpreter(model_path=job["model"], num_threads=job["threads"]), job["logits_at"])


def answer(path: str, step: Step) -> float:
    """From file to logit."""
    return model.logit(real_pixels(path, job, step), step)


serve(answer, "ai-edge-litert", "numpy", "pillow")
