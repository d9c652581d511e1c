"""Run on an ARM machine: what it makes of the golden images of the reference bundle.

`python probe.py PIXELS.npz ANSWERS.npz`: PIXELS holds the golden images as preprocessed elsewhere. ANSWERS holds for
each `NAME`: `NAME/decoded`, `NAME/pixels`, and for each output's `ROLE`: `NAME/given/ROLE`, the integers for the
pixels that were given, and `NAME/own/ROLE`, those for the machine's own.
"""

import sys

import numpy as np

from slimscan_edge.classifier import Classifier
from slimscan_edge.golden import golden_outputs
from slimscan_edge.locate import locate_bundle
from slimscan_edge.preprocess import decode, preprocess

given = np.load(sys.argv[1])
classifier = Classifier.load(locate_bundle(None).path)
roles, spec = classifier.manifest.output_roles, classifier.manifest.preprocess
answers = {}
for name in given.files:
    image = classifier.bundle.members[name]
    answers[f"{name}/decoded"] = np.asarray(decode(image, spec))
    answers[f"{name}/pixels"] = preprocess(image, spec)
    for role, tensor in zip(roles, classifier.interpreter.invoke(given[name][np.newaxis]), strict=True):
        answers[f"{name}/given/{role}"] = tensor.ravel()
    for role, integers in golden_outputs(classifier, image).items():
        answers[f"{name}/own/{role}"] = np.array(integers)
np.savez(sys.argv[2], **answers)
