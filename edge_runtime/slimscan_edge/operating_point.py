"""From a logit to a probability to a decision, on the host and in float."""

import math
from dataclasses import dataclass
from typing import Literal

Decision = Literal["positive", "negative", "refer", "rejected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """Where a model's score becomes a decision; chosen on validation patients, then locked in the bundle.

    Attributes:
        temperature: What a logit, its bias added, is divided by before the sigmoid (Guo et al. 2017).
        bias: Added to a logit first (Platt 1999): a model trained on both classes alike does not know how common each
            is, so probabilities hold where the disease is as common as in what they were fitted on.
        threshold: Probability from which a case is positive, 0 to 1.
        target_sensitivity: The sensitivity that the threshold was chosen for, 0 to 1.
        refer_low: Probability from which a case is referred to a person.
        refer_high: Probability from which it is no longer; equal to `refer_low` when nothing is referred.
        chosen_on: What it was chosen on, in words ("val: 520 images of 280 patients").
    """

    temperature: float = 1.0
    bias: float = 0.0
    threshold: float = 0.5
    target_sensitivity: float
    refer_low: float
    refer_high: float
    chosen_on: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")
        if not math.isfinite(self.bias):
            raise ValueError(f"bias is {self.bias}, expected a number")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}, expected a probability between 0 and 1")
        if not 0 < self.target_sensitivity <= 1:
            raise ValueError(f"target_sensitivity is {self.target_sensitivity}, expected 0 to 1")
        if not 0 <= self.refer_low <= self.threshold <= self.refer_high <= 1:
            raise ValueError(
                f"refer band {self.refer_low} to {self.refer_high} must contain the threshold {self.threshold}"
            )

    @property
    def logit_threshold(self) -> float:
        """The threshold as a logit of the model, before bias and temperature."""
        return self.temperature * math.log(self.threshold / (1.0 - self.threshold)) - self.bias

    def probability(self, logit: float) -> float:
        """The calibrated probability of the positive label, 0 to 1."""
        return sigmoid((logit + self.bias) / self.temperature)

    def decide(self, probability: float) -> Decision:
        """The decision at a probability: `refer` inside the refer band, else by the threshold."""
        if self.refer_low <= probability < self.refer_high:
            return "refer"
        return "positive" if probability >= self.threshold else "negative"


def sigmoid(value: float) -> float:
    """1 / (1 + e^-value), 0 to 1, for any finite value."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    return math.exp(value) / (1.0 + math.exp(value))
