"""A plain tflite-runtime script: Pillow, NumPy 1 and the interpreter."""

from protocol import Step, read_job, serve
from tflite_runtime.interpreter import Interpreter
from usual_pixels import real_pixels
from usual_tflite import UsualTflite

job = read_job()
model = UsualTflite(Interpreter(model_path=job["model"], num_threads=job["threads"]), job["logits_at"])


def answer(path: str, step: Step) -> float:
    """From file to logit."""
    return model.logit(real_pixels(path, job, step), step)


serve(answer, "tflite-runtime", "numpy", "pillow")
