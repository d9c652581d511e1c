"""The training loop, read top to bottom: batches, a step, validation at each epoch, a checkpoint that resumes."""

import csv
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import InputError
from slimscan_train.batches import Batch, TrainingSet, epoch_order, training_batches
from slimscan_train.config import FitConfig, TrainConfig
from slimscan_train.imagenet import load_imagenet_weights
from slimscan_train.metrics import cross_entropy, figures
from slimscan_train.model import build_model, normalise_pixels
from slimscan_train.thresholds import threshold_at_sensitivity

Teach: TypeAlias = Callable[[Iterator[Batch], int], Iterator[Batch]]
"""From an epoch's batches and its number to the same batches with other targets."""

_TRACED: "weakref.WeakKeyDictionary[Any, Callable[[Any], Any]]" = weakref.WeakKeyDictionary()
"""Inference of the models that are in use, traced once each."""

CHECKPOINT = "checkpoint"
BEST = "best.weights.h5"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """One row of `history.csv`: the training loss and the validation figures at the target sensitivity.

    `train_loss` is the loss that is minimised, on augmented images; `train_plain_loss` and `val_loss` are plain
    cross-entropies on images as they are, and comparable.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_plain_loss: float
    val_loss: float
    val_auroc: float
    val_sensitivity: float
    val_specificity: float
    seconds: float


def fit(
    config: TrainConfig,
    train: TrainingSet,
    val_pixels: NDArray[np.uint8],
    val_positive: NDArray[np.bool_],
    folder: Path,
    *,
    say: Callable[[EpochRow], None],
    watch: Callable[[int, int, int], None] | None = None,
    teach: Teach | None = None,
    weights: Path | None = None,
) -> Any:
    """Train, or go on from the checkpoint in `folder`; the run then ends as if it had never been stopped.

    Args:
        config: The run's configuration.
        train: What to train on.
        val_pixels: uint8 `[N, H, W, C]`, validation.
        val_positive: Labels `[N]`.
        folder: The run's folder: `history.csv`, `checkpoint/` and TensorBoard's `logs/` are written there.
        say: Told each epoch's row.
        watch: Told epoch, step and steps, at each step.
        teach: Softens the targets of an epoch's batches; None for the labels as they are.
        weights: Where a network that has seen ImageNet finds what it learnt there; None for its package or download.

    Returns:
        The Keras model with the weights of the epoch that `kept_row` names.

    Raises:
        InputError: The training diverged.
    """
    import tensorflow as tf

    asked = config.fit
    spec = config.preprocess
    model = build_model(config.model, spec.height, spec.width, spec.channels, seed=asked.seed)
    kept = build_model(config.model, spec.height, spec.width, spec.channels, seed=asked.seed)  # averaged weights
    state = _TrainingState(model, kept, folder)
    steps = len(batch_order(train, config, 0))
    optimizer = build_optimizer(model, asked, steps)
    step_once = step_function(model, kept, optimizer, config)
    rows = state.restore(optimizer)
    if not rows and config.model.network != "slimscan":
        load_imagenet_weights(model, config.model.network, weights)
        kept.set_weights(model.get_weights())
    writer = tf.summary.create_file_writer(str(folder / "logs"))
    some = np.linspace(0, len(train.pixels) - 1, min(len(train.pixels), len(val_pixels))).astype(np.int64)
    plain = train.unvaried(some)

    while len(rows) < asked.epochs and not _stalled(rows, asked.patience):
        epoch, start, losses = len(rows), perf_counter(), []
        order = batch_order(train, config, epoch)
        batches = training_batches(train, order, config.augment, seed=asked.seed, epoch=epoch)
        for step, batch in enumerate(teach(batches, epoch) if teach else batches):
            losses.append(step_once(*batch))
            if watch:
                watch(epoch, step + 1, steps)
        val_logits = predict_logits(kept, val_pixels)[:, 0]
        if not np.isfinite(val_logits).all():
            raise InputError(
                f"the training diverged in epoch {epoch + 1} (logits are no numbers); lower fit.learning_rate, now "
                f"{asked.learning_rate}, or lengthen fit.warmup_epochs"
            )
        threshold = threshold_at_sensitivity(val_logits, val_positive, config.operate.target_sensitivity)
        found = figures(val_logits, val_positive, threshold)
        row = EpochRow(
            epoch=epoch,
            learning_rate=float(optimizer.learning_rate),
            train_loss=float(np.mean([loss.numpy() for loss in losses])),
            train_plain_loss=cross_entropy(predict_logits(kept, plain)[:, 0], train.positive[some]),
            val_loss=found.loss,
            val_auroc=found.auroc,
            val_sensitivity=found.sensitivity,
            val_specificity=found.specificity,
            seconds=round(perf_counter() - start, 2),
        )
        rows.append(row)
        _log(writer, row)
        state.save(rows)
        say(row)
    kept.load_weights(folder / CHECKPOINT / BEST)
    return kept


def kept_row(rows: Sequence[EpochRow]) -> EpochRow:
    """The epoch whose weights are kept: the highest validation AUROC, of equals the least validation loss.

    AUROC, since the threshold and the calibration are fitted afterwards: a loss would also judge them.
    """
    return max(rows, key=lambda row: (row.val_auroc, -row.val_loss))


def fine_tune(
    model: Any,
    config: TrainConfig,
    train: TrainingSet,
    *,
    epochs: int,
    learning_rate: float,
    callback: Any = None,
    teach: Teach | None = None,
) -> None:
    """Train an existing model on, in place, with the run's batches and augmentation and no schedule.

    Args:
        model: A Keras model from pixels to logits and evidence, wrapped or not.
        config: The run's configuration.
        train: What to train on.
        epochs: Passes over it.
        learning_rate: Constant.
        callback: A Keras callback that is told of batches and epochs (a pruning schedule, say).
        teach: As for `fit`.
    """
    import tf_keras

    optimizer = tf_keras.optimizers.Adam(learning_rate)
    optimizer.build(model.trainable_variables)
    step_once = step_function(model, None, optimizer, config)
    if callback:
        model.optimizer = optimizer
        callback.set_model(model)
        callback.on_train_begin()
    for epoch in range(config.fit.epochs, config.fit.epochs + epochs):  # orders that the first training did not show
        order = batch_order(train, config, epoch)
        batches = training_batches(train, order, config.augment, seed=config.fit.seed, epoch=epoch)
        for step, batch in enumerate(teach(batches, epoch) if teach else batches):
            if callback:
                callback.on_train_batch_begin(step)
            step_once(*batch)
        if callback:
            callback.on_epoch_end(epoch)


def predict_logits(model: Any, pixels: NDArray[np.uint8], batch: int = 64) -> NDArray[np.float64]:
    """Logits of raw pixels uint8 `[N, H, W, C]`, float64 `[N, K]`."""
    if model not in _TRACED:
        _TRACED[model] = _trace(model, pixels.shape[1:])
    infer = _TRACED[model]
    parts = [
        infer(np.ascontiguousarray(pixels[start : start + batch])).numpy() for start in range(0, len(pixels), batch)
    ]
    return np.concatenate(parts).astype(np.float64)


def _trace(model: Any, shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """The model's inference as one graph: two to four times as fast as layer by layer."""
    import tensorflow as tf

    keeps_no_model = weakref.ref(model)  # or the graph, which is kept by the model, would keep it for ever

    def logits(pixels: Any) -> Any:
        alive = keeps_no_model()
        assert alive is not None  # it is asked for this
        return alive(normalise_pixels(pixels), training=False)[0]

    traced: Callable[[Any], Any] = tf.function(
        logits, autograph=False, input_signature=[tf.TensorSpec([None, *shape], tf.uint8)]
    )
    return traced


def read_history(folder: Path) -> list[EpochRow]:
    """The rows of a run's `history.csv`, oldest first; none when there is no such file."""
    path = folder / "history.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            EpochRow(epoch=int(row.pop("epoch")), **{name: float(value) for name, value in row.items()})
            for row in csv.DictReader(file)
        ]


class _TrainingState:
    """What is saved after each epoch: weights, averaged weights, optimiser, and how many epochs are done."""

    def __init__(self, model: Any, kept: Any, folder: Path) -> None:
        self._model, self._kept, self._folder = model, kept, folder
        (folder / CHECKPOINT).mkdir(parents=True, exist_ok=True)

    def restore(self, optimizer: Any) -> list[EpochRow]:
        """Load the last checkpoint, the optimiser's state too; the rows of the epochs that it covers."""
        import tensorflow as tf

        self._epochs = tf.Variable(0, dtype=tf.int64)
        checkpoint = tf.train.Checkpoint(
            model=self._model,
            kept=self._kept,
            optimizer=optimizer,
            epochs=self._epochs,
            # Keras leaves this state out of a model's checkpoint: a resumed run would drop other channels.
            dropout=self._model.get_layer("dropout")._random_generator,  # noqa: SLF001
        )
        self._manager = tf.train.CheckpointManager(checkpoint, str(self._folder / CHECKPOINT), max_to_keep=1)
        if not self._manager.latest_checkpoint:
            return []
        self._manager.restore_or_initialize()
        return read_history(self._folder)[: int(self._epochs)]

    def save(self, rows: list[EpochRow]) -> None:
        if kept_row(rows) is rows[-1]:
            self._kept.save_weights(self._folder / CHECKPOINT / BEST)
        _write_history(self._folder, rows)
        self._epochs.assign(len(rows))
        self._manager.save()


def batch_order(train: TrainingSet, config: TrainConfig, epoch: int) -> NDArray[np.int64]:
    """Which images an epoch shows, batch after batch, as `fit.balance` asks: int64 `[steps, batch]`."""
    return epoch_order(
        train.positive,
        config.fit.batch,
        balanced=config.fit.balance in ("batches", "style"),
        seed=config.fit.seed,
        epoch=epoch,
        frequencies=train.frequencies,
    )


def build_optimizer(model: Any, asked: FitConfig, steps: int) -> Any:
    """AdamW for a model, on the schedule of epochs of `steps` steps; neither norms nor biases decay."""
    import tf_keras

    optimizer = tf_keras.optimizers.AdamW(_schedule(asked, steps), weight_decay=asked.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    optimizer.build(model.trainable_variables)
    return optimizer


def _schedule(asked: FitConfig, steps: int) -> Any:
    """Linear warm-up, then half a cosine to a hundredth of the peak."""
    import tf_keras

    warmup = max(1, round(asked.warmup_epochs * steps))
    return tf_keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=asked.learning_rate / 100,
        decay_steps=max(1, asked.epochs * steps - warmup),
        alpha=0.01,
        warmup_target=asked.learning_rate,
        warmup_steps=warmup,
    )


def step_function(model: Any, kept: Any, optimizer: Any, config: TrainConfig) -> Callable[[Any, Any, Any, Any], Any]:
    """One step of gradient descent on `model`, and of its weight average `kept` if there is one, compiled.

    Args:
        model: From pixels to logits and evidence; changed in place.
        kept: The same network, whose weights follow those of `model`; None for no average.
        optimizer: Built for `model`.
        config: The run's configuration.

    Returns:
        A function of a `Batch`'s four parts; its value is the loss.
    """
    import tensorflow as tf

    asked = config.fit
    output_weights = [1.0, asked.subtype_weight][: config.model.outputs]

    def step(pixels: Any, targets: Any, weights: Any, taught: Any) -> Any:
        with tf.GradientTape() as tape:
            logits, evidence = model(pixels, training=True)  # [B, K] and [B, h, w, K]
            known = tf.math.is_finite(targets)
            smoothing = asked.label_smoothing if taught is None else 0.0  # a teacher is unsure where there is reason
            wanted = tf.where(known, targets, 0.5) * (1.0 - 2.0 * smoothing) + smoothing
            losses = tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits)
            if taught is not None:
                variance = tf.math.reduce_variance(taught, axis=(0, 1, 2))
                losses += asked.evidence_weight * tf.reduce_mean((evidence - taught) ** 2, axis=(1, 2)) / variance
            losses = tf.where(known, losses * weights[:, None] * output_weights, 0.0)
            loss = tf.reduce_sum(losses) / tf.cast(tf.shape(pixels)[0], tf.float32)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        if kept is None:
            return loss
        # A young average would remember the initial weights: its decay grows with the steps done.
        done = tf.cast(optimizer.iterations, tf.float32)
        decay = tf.minimum(asked.weight_average, (1.0 + done) / (10.0 + done)) if asked.weight_average else 0.0
        for average, value in zip(kept.variables, model.variables, strict=True):
            average.assign(decay * average + (1.0 - decay) * value)
        return loss

    compiled: Callable[[Any, Any, Any, Any], Any] = tf.function(step)
    return compiled


def _stalled(rows: list[EpochRow], patience: int) -> bool:
    if not rows:
        return False
    return rows[-1].epoch - kept_row(rows).epoch >= patience


def _write_history(folder: Path, rows: list[EpochRow]) -> None:
    partial = folder / "history.csv.partial"
    with partial.open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(EpochRow)])
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
    partial.replace(folder / "history.csv")


def _log(writer: Any, row: EpochRow) -> None:
    import tensorflow as tf

    with writer.as_default(step=row.epoch):
        for name, value in asdict(row).items():
            if name != "epoch" and math.isfinite(value):
                tf.summary.scalar(name, value)
    writer.flush()
