"""WAY BUNDLE THREADS IMAGE COUNT: load the bundle, then answer COUNT times for the image, ours or another way."""

import sys
from pathlib import Path

from slimscan_bench.ways import WAYS
from slimscan_edge.classifier import Classifier

way, bundle, threads, image, count = sys.argv[1:]
classifier = Classifier.load(bundle, threads=int(threads), allow_failed=True)
answer = WAYS[way](classifier) if way in WAYS else classifier.predict
for _ in range(int(count)):
    answer(Path(image))
