"""BUNDLE THREADS WARMUP REPEATS [WAY ...]: load the bundle, then answer for images round after round, warm.

The images are told on standard input, as one JSON list of paths; each round is told on standard output, as one JSON
list of its samples, which is empty for a round of the warm-up.
"""

import dataclasses
import json
import sys
from pathlib import Path

from slimscan_bench.latency import rounds_of_answers
from slimscan_bench.ways import WAYS
from slimscan_edge.classifier import Classifier

bundle, threads, warmup, repeats, *ways = sys.argv[1:]
classifier = Classifier.load(bundle, threads=int(threads), allow_failed=True)
images = [Path(path) for path in json.loads(sys.stdin.readline())]
others = {way: WAYS[way](classifier) for way in ways}
for samples in rounds_of_answers(classifier, images, warmup=int(warmup), repeats=int(repeats), ways=others):
    print(json.dumps([dataclasses.asdict(sample) for sample in samples]), flush=True)  # noqa: T201
