"""MediaPipe Tasks' image classifier on the three-channel twin, which resizes and normalises inside.

As in https://ai.google.dev/edge/mediapipe/solutions/vision/image_classifier/python. It has no choice of threads. The
pictures come by way of Pillow: MediaPipe's own reader refuses what the classifier does not take, such as grey.
"""

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
from PIL import Image
from protocol import Step, read_job, serve

job = read_job()
settings = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=job["model"]))
classifier = vision.ImageClassifier.create_from_options(settings)


def answer(path: str, step: Step) -> float:
    """From file to the positive label's score."""
    rgb = np.asarray(Image.open(path).convert("RGB"))
    step("decode")
    picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)
    (head,) = classifier.classify(picture).classifications
    step("invoke")
    return next(found.score for found in head.categories if found.category_name == job["positive"])


serve(answer, "mediapipe", "numpy", "pillow")
