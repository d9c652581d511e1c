"""BUNDLE THREADS: load the bundle ("" for the shipped one) and answer for each image named on a line of standard input.

Lines are JSON, in and out: first what was loaded, then of each image milliseconds on the wall, milliseconds of
processors' time and the decision. The Python of the build that is measured runs it, so it uses what every build has.
"""

import json
import sys
from pathlib import Path
from time import perf_counter, process_time

from slimscan_edge import __version__
from slimscan_edge.classifier import Classifier
from slimscan_edge.locate import locate_bundle

bundle, threads = sys.argv[1:]
path = locate_bundle(Path(bundle) if bundle else None).path
classifier = Classifier.load(path, threads=int(threads), allow_failed=True)
loaded = {
    "slimscan": __version__,
    "bundle_id": classifier.manifest.bundle_id,
    "bundle_sha256": classifier.bundle.sha256,
    "interpreter": classifier.interpreter.backend,
    "threads": classifier.interpreter.threads,
}
print(json.dumps(loaded), flush=True)  # noqa: T201
for line in sys.stdin:
    image = Path(json.loads(line))
    cpu, wall = process_time(), perf_counter()
    finding = classifier.predict(image)
    wall_ms, cpu_ms = (perf_counter() - wall) * 1e3, (process_time() - cpu) * 1e3
    print(json.dumps([wall_ms, cpu_ms, finding.decision]), flush=True)  # noqa: T201
