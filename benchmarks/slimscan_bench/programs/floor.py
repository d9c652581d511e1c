"""MODEL THREADS IMAGE JPEG_OVERSAMPLE: the same with NumPy, Pillow and the interpreter alone, nothing checked."""

import sys

import numpy as np
from PIL import Image

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:
    from tflite_runtime.interpreter import Interpreter

model, threads, path, oversample = sys.argv[1:]
interpreter = Interpreter(model_path=model, num_threads=int(threads))
interpreter.allocate_tensors()
pixels = interpreter.get_input_details()[0]
_, height, width, channels = pixels["shape"]
mode = "L" if channels == 1 else "RGB"
image = Image.open(path)
if int(oversample):
    image.draft(mode, (int(width) * int(oversample), int(height) * int(oversample)))
resized = image.convert(mode).resize((int(width), int(height)), Image.Resampling.BILINEAR)
interpreter.set_tensor(pixels["index"], np.asarray(resized, dtype=np.uint8).reshape(pixels["shape"]))
interpreter.invoke()
print(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).flat[0], flush=True)  # noqa: T201
sys.stdin.read()
