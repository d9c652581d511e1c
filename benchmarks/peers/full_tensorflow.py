"""Full TensorFlow: `tf.io` reads and decodes, `tf.image` resizes, `tf.lite.Interpreter` runs.

As in https://www.tensorflow.org/tutorials/load_data/images, but with antialiasing: without it (the default) the model
sees other pixels than it was trained on, and answers otherwise.
"""

import numpy as np
import tensorflow as tf
from protocol import Step, read_job, serve
from usual_tflite import UsualTflite

job = read_job()
tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
model = UsualTflite(tf.lite.Interpreter(model_path=job["model"], num_threads=job["threads"]), job["logits_at"])


def answer(path: str, step: Step) -> float:
    """From file to logit."""
    image = tf.io.decode_image(tf.io.read_file(path), channels=job["channels"], expand_animations=False)
    step("decode")
    size = (job["height"], job["width"])
    pixels = tf.image.resize(image, size, method=job["resize_filter"], antialias=True).numpy()
    if job["intensity"] == "percentile":
        low, high = np.percentile(pixels, (1, 99))
        if high > low:
            pixels = np.clip((pixels - low) / (high - low) * 255.0, 0.0, 255.0)
    step("prepare")
    return model.logit(pixels, step)


serve(answer, "tensorflow", "numpy")
