"""The golden self-test: does this machine compute what the exporting machine computed?

A bundle carries a few synthetic PNG images and the integers that its model answered for them. They pass
through the same preprocessing and interpreter as any X-ray, so that a wrong kernel, a wrong resize or a
damaged installation shows before the first patient does.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.classifier import Classifier
from slimscan_edge.errors import BundleError, InterpreterError
from slimscan_edge.preprocess import preprocess
from slimscan_edge.records import read_json, shortened

EXPECTED = "golden/expected.json"
TOLERANCE_STEPS = 1
"""Largest difference of one output integer that still passes: rounding of a requantisation, never a wrong kernel."""
OTHER_KERNELS_STEPS = 3
"""As `TOLERANCE_STEPS`, for an interpreter that does not run XNNPACK, with which the expected integers are made: as
much as TFLite's reference kernels differed from it on 120 X-rays (docs/decisions/0005-two-sets-of-kernels.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """What the self-test found.

    Attributes:
        images: Golden images run.
        largest_difference: Largest difference of an output integer from the expected one, in steps.
        allowed_steps: Largest difference that passes with this machine's kernels.
    """

    images: int
    largest_difference: int
    allowed_steps: int

    @property
    def passed(self) -> bool:
        """Every output integer is within `allowed_steps` of the expected one."""
        return self.largest_difference <= self.allowed_steps


def golden_outputs(classifier: Classifier, image: bytes) -> dict[str, list[int]]:
    """The output integers of one golden image, flattened, by role of the output."""
    tensors = _invoke(classifier, image)
    roles = classifier.manifest.output_roles
    return {role: [int(v) for v in tensor.ravel()] for role, tensor in zip(roles, tensors, strict=True)}


def self_test(classifier: Classifier) -> SelfTest:
    """Run every golden image of the bundle and compare integers.

    Raises:
        BundleError: The bundle carries no golden images, or their list is not readable.
    """
    try:
        expected = _expected(classifier)
        largest = max(
            _largest_difference(f"{name}: {role}", outputs[role], values)
            for name, by_role in expected.items()
            for outputs in [golden_outputs(classifier, classifier.bundle.members[name])]
            for role, values in by_role.items()
        )
    except ValueError as exc:
        raise BundleError(f"{classifier.manifest.bundle_id} has no usable golden images ({exc})") from exc
    allowed = TOLERANCE_STEPS if classifier.interpreter.runs_xnnpack else OTHER_KERNELS_STEPS
    return SelfTest(images=len(expected), largest_difference=largest, allowed_steps=allowed)


def require_self_test(classifier: Classifier) -> SelfTest:
    """Run the self-test and refuse a machine that computes otherwise.

    Raises:
        InterpreterError: An output differs by more than is allowed with this machine's kernels.
        BundleError: As for `self_test`.
    """
    result = self_test(classifier)
    if not result.passed:
        raise InterpreterError(
            f"{classifier.interpreter.backend} answers the golden images of {classifier.manifest.bundle_id} "
            f"{result.largest_difference} steps off (at most {result.allowed_steps} allowed); "
            "do not use this machine's answers, install another interpreter version"
        )
    return result


def _expected(classifier: Classifier) -> dict[str, dict[str, list[int]]]:
    """The listed integers, by golden image and role.

    Raises:
        ValueError: They are not such a list, or no image is listed.
    """
    members, roles = classifier.bundle.members, classifier.manifest.output_roles
    if EXPECTED not in members:
        raise ValueError(f"there is no {EXPECTED}")
    expected = read_json(members[EXPECTED])
    if not isinstance(expected, dict) or not expected:
        raise ValueError(f"{EXPECTED} lists no image")
    for name, by_role in expected.items():
        if name not in members or name == EXPECTED:
            raise ValueError(f"{EXPECTED} lists {shortened(name)}, which is not there")
        if not isinstance(by_role, dict) or set(by_role) != set(roles):
            raise ValueError(f"{EXPECTED}: {name} has no integers of {' and '.join(roles)}")
        if not all(isinstance(values, list) and all(type(v) is int for v in values) for values in by_role.values()):
            raise ValueError(f"{EXPECTED}: {name} has something else than integers")
    return expected


def _largest_difference(name: str, found: list[int], wanted: list[int]) -> int:
    if len(found) != len(wanted):
        raise ValueError(f"{name} has {len(wanted)} integers, and the model gives {len(found)}")
    return max(abs(one - other) for one, other in zip(found, wanted, strict=True))


def _invoke(classifier: Classifier, image: bytes) -> tuple[NDArray[Any], ...]:
    return classifier.interpreter.invoke(preprocess(image, classifier.manifest.preprocess)[np.newaxis])
