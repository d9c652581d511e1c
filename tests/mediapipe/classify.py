"""Run with MediaPipe's environment: one JSON object a picture, from a twin and pictures named on standard input.

Usage: python classify.py TWIN < PATHS
"""

import json
import sys

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
from PIL import Image


def main(twin: str) -> None:
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=twin))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for path in sys.stdin.read().splitlines():
            rgb = np.asarray(Image.open(path).convert("RGB"))
            picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)
            (head,) = classifier.classify(picture).classifications
            print(json.dumps([[category.category_name, category.score] for category in head.categories]))


if __name__ == "__main__":
    main(sys.argv[1])
