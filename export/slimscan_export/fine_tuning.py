"""Magnitude pruning and quantisation-aware training, by the TensorFlow model optimisation toolkit.

Both go on from the trained float model with the run's own images and augmentation, for a few epochs at a small
learning rate. Pruned first and then quantisation-aware, the zeros are kept.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from slimscan_train.batches import TrainingSet
from slimscan_train.config import TrainConfig
from slimscan_train.fit import fine_tune
from slimscan_train.model import PIXEL_CENTRE, PIXEL_SCALE


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneConfig:
    """How compression trains on.

    Attributes:
        epochs: Passes over the training images for each of pruning and quantisation-aware training.
        learning_rate: Constant.
    """

    epochs: int = 2
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.learning_rate < 0.1:
            raise ValueError(f"epochs {self.epochs} must be 1 or more, learning_rate {self.learning_rate} 0 to 0.1")


def prune(model: Any, sparsity: float, train: TrainingSet, config: TrainConfig, tuning: FineTuneConfig) -> Any:
    """Set the smallest weights of the pointwise convolutions to zero, gradually while training on.

    Args:
        model: The float Keras model.
        sparsity: Share of each kernel that is zero in the end, 0 to 1.
        train: What to train on.
        config: The run's configuration.
        tuning: For how long.

    Returns:
        A Keras model without wrappers, its zeros in place.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    sparse = tfmot.sparsity.keras
    steps = tuning.epochs * max(1, len(train.pixels) // config.fit.batch)
    every = max(1, steps // 40)
    # Ends on a step that prunes, half-way: the share asked for is reached, and time is left to recover.
    schedule = sparse.PolynomialDecay(0.0, sparsity, 0, every * max(1, steps // 2 // every), frequency=every)

    def wrap(layer: Any) -> Any:
        copy = type(layer).from_config(layer.get_config())  # else the float model itself would be trained on
        pointwise = isinstance(layer, tf_keras.layers.Conv2D) and layer.kernel_size == (1, 1)
        if not pointwise or layer.name == "evidence":
            return copy
        return sparse.prune_low_magnitude(copy, pruning_schedule=schedule)

    wrapped = tf_keras.models.clone_model(model, clone_function=wrap)
    for layer, source in zip(wrapped.layers, model.layers, strict=True):
        inner = getattr(layer, "layer", layer)
        inner.set_weights(source.get_weights())
    fine_tune(
        wrapped,
        config,
        train,
        epochs=tuning.epochs,
        learning_rate=tuning.learning_rate,
        callback=sparse.UpdatePruningStep(),
    )
    return sparse.strip_pruning(wrapped)


def quantisation_aware(
    model: Any, train: TrainingSet, config: TrainConfig, tuning: FineTuneConfig, *, keep_zeros: bool
) -> Any:
    """Train on with the int8 grid in the loop, so that weights and ranges fit it.

    Args:
        model: The float Keras model, pruned or not.
        train: What to train on.
        config: The run's configuration.
        tuning: For how long.
        keep_zeros: Keep the zeros of a pruned model.

    Returns:
        A Keras model with quantisers, for `convert.saved_model(..., quantisation_aware=True)`.
    """
    import tensorflow_model_optimization as tfmot

    annotated = tfmot.quantization.keras.quantize_annotate_model(model)
    scheme = tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme() if keep_zeros else None
    options = {"scheme": scheme} if scheme else {}
    with tfmot.quantization.keras.quantize_scope():
        aware = tfmot.quantization.keras.quantize_apply(annotated, **options)
    _pin_input_range(aware)
    fine_tune(aware, config, train, epochs=tuning.epochs, learning_rate=tuning.learning_rate)
    _pin_input_range(aware)
    return aware


def zero_share(model: Any) -> float:
    """Share of zeros among all kernel weights of a Keras model, 0 to 1."""
    kernels = [np.asarray(w) for layer in model.layers for w in layer.get_weights() if np.ndim(w) == 4]
    return float(sum((k == 0).sum() for k in kernels) / sum(k.size for k in kernels))


def _pin_input_range(aware: Any) -> None:
    """Give the input quantiser the range of all grey levels, whatever the batches held."""
    low, high = (0.0 - PIXEL_CENTRE) / PIXEL_SCALE, (255.0 - PIXEL_CENTRE) / PIXEL_SCALE
    (layer,) = [layer for layer in aware.layers if type(layer).__name__ == "QuantizeLayer"]
    for variable in layer.weights:
        if variable.name.split(":")[0].endswith("_min"):
            variable.assign(low)
        elif variable.name.split(":")[0].endswith("_max"):
            variable.assign(high)
