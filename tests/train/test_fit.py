import csv
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimscan_edge.errors import InputError
from slimscan_train.batches import TrainingSet
from slimscan_train.config import TrainConfig, config_from
from slimscan_train.fit import (
    EpochRow,
    _stalled,
    _write_history,
    build_optimizer,
    fit,
    kept_row,
    predict_logits,
    read_history,
    step_function,
)
from slimscan_train.metrics import cross_entropy
from slimscan_train.model import build_model, normalise_pixels

POSITIVE = np.arange(32) % 2 == 0


def row(epoch: int, val_loss: float, val_auroc: float = 0.9) -> EpochRow:
    rest = {field.name: 0.1 for field in fields(EpochRow)}
    return EpochRow(**{**rest, "epoch": epoch, "val_loss": val_loss, "val_auroc": val_auroc})


def history(*losses: float) -> list[EpochRow]:
    return [row(epoch, loss) for epoch, loss in enumerate(losses)]


# --- without TensorFlow ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "stalled"),
    [
        ((), False),
        ((0.5,), False),
        ((0.5, 0.6), False),
        ((0.5, 0.6, 0.6), True),
        ((0.5, 0.6, 0.4, 0.5), False),
        ((0.5, 0.5, 0.5), True),  # as good is not better
    ],
)
def test_training_stalls_after_two_epochs_without_a_better_one(losses: tuple[float, ...], stalled: bool) -> None:
    assert _stalled(history(*losses), patience=2) is stalled


def test_the_epoch_that_is_kept_orders_best_and_then_loses_least() -> None:
    rows = [row(0, 0.1, 0.8), row(1, 0.4, 0.9), row(2, 0.3, 0.9), row(3, 0.3, 0.9), row(4, 0.2, 0.85)]
    assert kept_row(rows) is rows[2]


def test_history_is_written_and_read_back_exactly(tmp_path: Path) -> None:
    rows = history(1 / 3, 0.1 + 0.2)
    _write_history(tmp_path, rows)
    assert read_history(tmp_path) == rows
    with (tmp_path / "history.csv").open(newline="") as file:
        assert next(csv.reader(file)) == [field.name for field in fields(EpochRow)]
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]
    assert read_history(tmp_path / "absent") == []


# --- with a tiny network ---------------------------------------------------------------------------------------------


def pictures() -> np.ndarray:
    """Noise, darker where positive: uint8 `[32, 32, 32, 1]`."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 1), dtype=np.uint8)
    pixels[POSITIVE] //= 2
    return pixels


def tiny(**fit_options: Any) -> TrainConfig:
    """All that draws random numbers is on: dropout, augmentation, mixing, balanced batches."""
    return config_from(
        {
            "preprocess": {"height": 32, "width": 32},
            "model": {"width": 0.05, "dropout": 0.3, "outputs": 2},
            "augment": {"mixup": 0.2, "erase": 0.3},
            "fit": {"epochs": 3, "batch": 8, "seed": 4, **fit_options},
        },
        where="test",
    )


class Interruption:
    """Ctrl-C in the second step of an epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self.seen: list[tuple[int, int, int]] = []

    def __call__(self, epoch: int, step: int, steps: int) -> None:
        self.seen.append((epoch, step, steps))
        if (epoch, step) == (self._epoch, 2):
            raise KeyboardInterrupt


def train(
    folder: Path,
    config: TrainConfig,
    *,
    interrupt_in: int = -1,
    val_positive: np.ndarray = POSITIVE,
    weight: float = 1.0,
) -> tuple[Any, list[EpochRow], Interruption]:
    """Train; the model is None when it was interrupted."""
    pixels = pictures()
    subtype = np.where(POSITIVE, np.arange(32) % 4 == 0, np.nan)
    targets = np.stack([POSITIVE, subtype], axis=1).astype(np.float32)
    data = TrainingSet(pixels=pixels, targets=targets, weights=np.full(32, weight, np.float32), spec=config.preprocess)
    told: list[EpochRow] = []
    watch = Interruption(interrupt_in)
    try:
        model = fit(config, data, pixels, val_positive, folder, say=told.append, watch=watch)
    except KeyboardInterrupt:
        model = None
    return model, told, watch


def unclocked(rows: list[EpochRow]) -> list[dict[str, float]]:
    return [{name: value for name, value in asdict(row).items() if name != "seconds"} for row in rows]


@pytest.mark.slow
def test_a_run_that_was_stopped_and_resumed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, told, watched = train(tmp_path / "whole", tiny())
    assert [row.epoch for row in told] == [0, 1, 2]
    assert watched.seen == [(epoch, step, 4) for epoch in range(3) for step in range(1, 5)]

    stopped, before, _ = train(tmp_path / "stopped", tiny(), interrupt_in=1)
    assert stopped is None
    assert [row.epoch for row in before] == [0]
    resumed, after, _ = train(tmp_path / "stopped", tiny())
    assert [row.epoch for row in after] == [1, 2]

    expected, found = (unclocked(read_history(tmp_path / name)) for name in ("whole", "stopped"))
    assert len(found) == 3
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)

    assert read_history(tmp_path / "whole") == told
    assert all(math.isfinite(value) for line in told for value in asdict(line).values())
    assert any((tmp_path / "whole" / "logs").iterdir())


@pytest.mark.slow
def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"diverged in epoch 1 .*lower fit.learning_rate"):
        train(tmp_path, tiny(), weight=1e38)  # the loss overflows, as one that grows from step to step does


@pytest.mark.slow
def test_training_stops_early_and_returns_the_best_epoch(tmp_path: Path) -> None:
    """Validation labels are swapped: the more is learnt, the worse they are met."""
    swapped = ~POSITIVE
    config = tiny(epochs=40, patience=2, learning_rate=0.02, weight_average=0.0, warmup_epochs=0.1)
    model, rows, _ = train(tmp_path, config, val_positive=swapped)
    best = kept_row(rows)
    assert len(rows) == best.epoch + 1 + 2 < 40
    logits = predict_logits(model, pictures())
    assert logits.shape == (32, 2)
    assert cross_entropy(logits[:, 0], swapped) == pytest.approx(best.val_loss, rel=1e-4)
    _, again, watched = train(tmp_path, config, val_positive=swapped)
    assert (again, watched.seen) == ([], [])  # a run that has stalled is not trained on when resumed


def test_a_teachers_evidence_counts_where_a_target_is_known() -> None:
    import tensorflow as tf

    config = config_from(
        {
            "preprocess": {"height": 32, "width": 32},
            "model": {"width": 0.05, "dropout": 0.0, "outputs": 2},
            "fit": {"evidence_weight": 0.7, "subtype_weight": 0.3, "learning_rate": 1e-9, "label_smoothing": 0.2},
        },
        where="test",
    )
    model = build_model(config.model, 32, 32)
    step_once = step_function(model, None, build_optimizer(model, config.fit, 1), config)
    pixels = tf.constant(normalise_pixels(pictures()[:4]))
    logits, evidence = (output.numpy() for output in model(pixels, training=True))
    targets = np.array([[1.0, 0.25], [0.9, 1.0], [0.1, np.nan], [0.0, np.nan]], np.float32)
    taught = evidence + np.array([0.5, -2.0], np.float32) + np.random.default_rng(0).normal(0, 1, evidence.shape)
    weights = np.array([1.0, 2.0, 1.0, 1.0], np.float32)

    entropy = np.logaddexp(0.0, logits) - np.where(np.isnan(targets), 0.0, targets) * logits  # labels not smoothed
    apart = ((evidence - taught) ** 2).mean(axis=(1, 2)) / taught.var(axis=(0, 1, 2))
    each = (entropy + 0.7 * apart) * weights[:, None] * [1.0, 0.3]
    expected = np.where(np.isnan(targets), 0.0, each).sum() / 4
    found = step_once(pixels, tf.constant(targets), tf.constant(weights), tf.constant(taught, tf.float32))
    assert float(found) == pytest.approx(expected, rel=1e-4)
