"""The device's library: load a bundle once, ask it about images.

Example:
    >>> from slimscan_edge import Classifier
    >>> classifier = Classifier.load("pneumonia-0.8.0.slimscan")
    >>> finding = classifier.predict("xray.jpeg")
    >>> print(finding.decision, finding.probability)
"""

import math
import os
import threading
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slimscan_edge.bundle import Bundle, Manifest, read_bundle
from slimscan_edge.errors import BundleError
from slimscan_edge.guard import guard_of
from slimscan_edge.interpreter import Interpreter
from slimscan_edge.operating_point import Decision, sigmoid
from slimscan_edge.preprocess import ImageSource, decode, display_name, fit_to_input

NOT_A_MEDICAL_DEVICE = "Not a medical device: for research and education, not for diagnosis."


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Milliseconds spent on one image: reading the file, resizing it, the network, and the rest."""

    decode_ms: float
    resize_ms: float
    invoke_ms: float
    decide_ms: float

    @property
    def total_ms(self) -> float:
        """From file to finding."""
        return self.decode_ms + self.resize_ms + self.invoke_ms + self.decide_ms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finding:
    """The answer for one image.

    Attributes:
        decision: `positive`, `negative`, `refer` (too close to call: ask a person) or `rejected`.
        label: The bundle's name of the class on this side of the threshold, also when referred; empty when rejected.
        probability: Calibrated probability of the positive label, 0 to 1; NaN when rejected. It is not a severity.
        logit: The model's score behind it, before bias and temperature; NaN when rejected.
        evidence: float32 `[h, w]`, contribution of each region to the logit; the logit is its mean. `[0, 0]` when
            rejected.
        bundle_id: `NAME-VERSION` of the bundle that answered.
        timings: Where the time went.
        subtype: The likelier subtype when the label is positive and the bundle tells subtypes apart; empty otherwise.
        subtype_probability: Of `subtype` given a positive case, 0.5 to 1, calibrated at training where validation held
            enough cases of both; NaN when there is none.
        reason: Why the image was rejected; empty otherwise.
    """

    decision: Decision
    label: str
    probability: float
    logit: float
    evidence: NDArray[np.float32]
    bundle_id: str
    timings: Timings
    subtype: str = ""
    subtype_probability: float = math.nan
    reason: str = ""

    @classmethod
    def rejected(cls, reason: str, *, bundle_id: str) -> "Finding":
        """The finding for an image that could not be, or was not, answered for."""
        return cls(
            decision="rejected",
            label="",
            probability=math.nan,
            logit=math.nan,
            evidence=np.empty((0, 0), np.float32),
            bundle_id=bundle_id,
            timings=Timings(decode_ms=0.0, resize_ms=0.0, invoke_ms=0.0, decide_ms=0.0),
            reason=reason,
        )


class Classifier:
    """A bundle ready to answer. One classifier may be shared by several threads: inferences take turns."""

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        """Prepare a verified bundle for inference.

        Args:
            bundle: From `read_bundle`.
            threads: Threads for one inference; all cores but one, up to four, when None.

        Raises:
            BundleError: The model's tensors are not the ones the manifest describes, or its guard is none.
            InterpreterError: There is no interpreter, or it refuses the model.
        """
        self.bundle = bundle
        self.interpreter = Interpreter(bundle.model, threads=threads)
        _check_tensors(bundle.manifest, self.interpreter)
        self.guard = guard_of(bundle)
        self._logits_at = bundle.manifest.output_roles.index("logits")
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, threads: int | None = None, allow_failed: bool = False
    ) -> "Classifier":
        """Read, verify and prepare a `.slimscan` file.

        Raises:
            BundleError: The file is damaged, or its gates did not pass and `allow_failed` is False.
            InterpreterError: There is no interpreter, or it refuses the model.
        """
        return cls(read_bundle(path, allow_failed=allow_failed), threads=threads)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    def predict(self, source: ImageSource) -> Finding:
        """Answer for one image; `rejected` when the bundle's guard finds that it is no X-ray of the kind it knows.

        Args:
            source: A path, the bytes of an image file, a Pillow image, or uint8 pixels.

        Raises:
            ImageError: The image is unreadable or refused.
        """
        start = perf_counter()
        image = decode(source, self.manifest.preprocess)
        return self.answer(image, decode_ms=(perf_counter() - start) * 1e3, name=display_name(source))

    def answer(self, image: Image.Image, *, decode_ms: float, name: str = "the image") -> Finding:
        """Answer for an image that is already decoded, as it may be by another thread.

        Args:
            image: From `slimscan_edge.preprocess.decode` with this bundle's preprocessing.
            decode_ms: What decoding took, for the timings.
            name: What a reason calls the image.
        """
        start = perf_counter()
        pixels = fit_to_input(image, self.manifest.preprocess)
        resized = perf_counter()
        logits, evidence = self.scores(pixels)
        invoked = perf_counter()
        reason = self.guard.reject(image, pixels, evidence) if self.guard else ""
        if not (np.isfinite(logits).all() and np.isfinite(evidence).all()):
            reason = "has no answer: the network computed something else than numbers"
        point = self.manifest.operating_point
        logit = float(logits[0])
        probability = point.probability(logit)
        positive = probability >= point.threshold
        subtype, subtype_probability = self._subtype(logits) if positive else ("", math.nan)
        timings = Timings(
            decode_ms=decode_ms,
            resize_ms=(resized - start) * 1e3,
            invoke_ms=(invoked - resized) * 1e3,
            decide_ms=(perf_counter() - invoked) * 1e3,
        )
        if reason:
            return replace(Finding.rejected(f"{name} {reason}", bundle_id=self.manifest.bundle_id), timings=timings)
        return Finding(
            decision=point.decide(probability),
            label=self.manifest.labels[int(positive)],
            probability=probability,
            logit=logit,
            evidence=evidence[:, :, 0],
            bundle_id=self.manifest.bundle_id,
            timings=timings,
            subtype=subtype,
            subtype_probability=subtype_probability,
        )

    def _subtype(self, logits: NDArray[np.float32]) -> tuple[str, float]:
        """The likelier subtype by the second logit, and its probability."""
        if not self.manifest.subtypes:
            return "", math.nan
        first = sigmoid(float(logits[1]))
        return self.manifest.subtypes[int(first < 0.5)], max(first, 1.0 - first)

    def scores(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the model on preprocessed pixels.

        Args:
            pixels: uint8 `[H, W, C]` from `slimscan_edge.preprocess`.

        Returns:
            Logits, float32 `[K]`, and evidence map, float32 `[h, w, K]`; the first of K is the decision's.
        """
        with self._lock:
            tensors = self.interpreter.invoke(pixels[np.newaxis])
        specs = self.interpreter.outputs
        logits, evidence = self._logits_at, 1 - self._logits_at
        return specs[logits].real_values(tensors[logits])[0], specs[evidence].real_values(tensors[evidence])[0]


def _check_tensors(manifest: Manifest, interpreter: Interpreter) -> None:
    for what, listed, found in (
        ("input", (manifest.input,), (interpreter.input,)),
        ("outputs", manifest.outputs, interpreter.outputs),
    ):
        if listed != found:
            raise BundleError(f"the model's {what} {found} are not the manifest's {listed}; the bundle is inconsistent")
