"""Training that compression asks for: magnitude pruning, quantisation-aware training, recovery of a narrower network.

The first two are those of the TensorFlow model optimisation toolkit. All go on from trained weights with the run's own
images and augmentation, for a few epochs at a small learning rate, and may learn from a teacher's answers. Pruned first
and then quantisation-aware, the zeros are kept.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from slimscan_train.batches import TrainingSet
from slimscan_train.config import TrainConfig
from slimscan_train.fit import Teach, fine_tune
from slimscan_train.model import PIXEL_CENTRE, PIXEL_SCALE


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneConfig:
    """How compression trains on.

    Attributes:
        epochs: Passes over the training images, for each training by itself.
        learning_rate: Constant in pruning and quantisation-aware training; the highest in recovery.
    """

    epochs: int = 2
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.learning_rate < 0.1:
            raise ValueError(f"epochs {self.epochs} must be 1 or more, learning_rate {self.learning_rate} 0 to 0.1")


def prune(
    model: Any,
    sparsity: float,
    train: TrainingSet,
    config: TrainConfig,
    tuning: FineTuneConfig,
    *,
    teach: Teach | None = None,
) -> Any:
    """Set the smallest weights of the pointwise convolutions to zero, gradually while training on.

    Args:
        model: The float Keras model.
        sparsity: Share of each kernel that is zero in the end, 0 to 1.
        train: What to train on.
        config: The run's configuration.
        tuning: For how long.
        teach: Softens the targets of an epoch's batches; None for the labels as they are.

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
        teach=teach,
    )
    return sparse.strip_pruning(wrapped)


def quantisation_aware(
    model: Any,
    train: TrainingSet,
    config: TrainConfig,
    tuning: FineTuneConfig,
    *,
    keep_zeros: bool,
    teach: Teach | None = None,
) -> Any:
    """Train on with the int8 grid in the loop, so that weights and ranges fit it.

    Args:
        model: The float Keras model, pruned or not.
        train: What to train on.
        config: The run's configuration.
        tuning: For how long.
        keep_zeros: Keep the zeros of a pruned model.
        teach: As for `prune`.

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
    fine_tune(aware, config, train, epochs=tuning.epochs, learning_rate=tuning.learning_rate, teach=teach)
    _pin_input_range(aware)
    return aware


def recover(
    model: Any, train: TrainingSet, config: TrainConfig, tuning: FineTuneConfig, *, teach: Teach | None = None
) -> None:
    """Train a network that lost channels, in place, the learning rate falling by half a cosine to a hundredth.

    Args:
        model: The Keras model.
        train: What to train on.
        config: The run's configuration.
        tuning: For how long, and from which learning rate.
        teach: As for `prune`.
    """
    import tf_keras

    steps = tuning.epochs * max(1, len(train.pixels) // config.fit.batch)
    falling = tf_keras.optimizers.schedules.CosineDecay(tuning.learning_rate, decay_steps=steps, alpha=0.01)
    fine_tune(model, config, train, epochs=tuning.epochs, learning_rate=falling, teach=teach)


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
