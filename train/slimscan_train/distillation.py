"""A teacher's answers as targets for a small network (Hinton et al. 2015, arXiv:1503.02531).

The teacher answers the very batches that the student sees, crops and tones included (Beyer et al. 2022,
arXiv:2106.05237: a patient and consistent teacher). What it answered is kept, so that another student on the same
batches costs no teacher time. Both look at the same temperature, 1: the cross-entropy is linear in its target, so
that a mixture of label and answer is one target. And both have evidence maps, so that the student is told not only
what the teacher says but where it sees it: one target for each region instead of one for the image.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.atomic import write_atomically
from slimscan_edge.errors import InputError
from slimscan_train.augment import REVISION
from slimscan_train.batches import Batch, TrainingSet
from slimscan_train.config import TrainConfig
from slimscan_train.pixels import cache_folder
from slimscan_train.run import Run
from slimscan_train.split import Split


class Teacher:
    """One or several finished runs that answer for training batches, together by the mean of their evidence."""

    def __init__(self, runs: Sequence[Run], config: TrainConfig, train: TrainingSet) -> None:
        """Prepare teachers for a student.

        Args:
            runs: The teachers; their models are loaded when an answer is not known yet.
            config: The student's.
            train: What the student trains on.

        Raises:
            InputError: A teacher sees other pixels, or has fewer outputs than the student.
        """
        for run in runs:
            _require_same_sight(run, config)
        self._runs, self._share, self._outputs = runs, config.fit.teacher_share, config.model.outputs
        self._models: list[Any] = []
        self._folder = cache_folder() / "teacher" / _key(runs, config, train)

    def teach(self, batches: Iterator[Batch], epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, counted from 0, with the teacher's answers in their targets, and its evidence."""
        import tensorflow as tf

        file = self._folder / f"epoch-{epoch:03d}.npy"
        known = np.load(file) if file.exists() else None
        answers = []
        for step, (pixels, targets, weights, _) in enumerate(batches):
            evidence = self._answer(pixels) if known is None else known[step]
            answers.append(evidence)
            evidence = tf.constant(evidence.astype(np.float32))
            soft = tf.sigmoid(tf.reduce_mean(evidence, axis=(1, 2)))
            yield pixels, (1.0 - self._share) * targets + self._share * soft, weights, evidence
        if known is None:
            content = io.BytesIO()
            np.save(content, np.stack(answers))
            write_atomically(file, content.getvalue())  # another student may be asking the same

    def _answer(self, pixels: Any) -> NDArray[np.float16]:
        """The mean evidence of the teachers, `[B, h, w, K]`; their logits are its mean."""
        import tensorflow as tf

        if not self._models:
            self._models = [tf.function(run.model()) for run in self._runs]
        evidence = [model(pixels, training=False)[1][..., : self._outputs] for model in self._models]
        return np.asarray(np.mean(evidence, axis=0, dtype=np.float32), np.float16)


def teaching_split(runs: Sequence[Run]) -> Split:
    """The split of the teachers, which the student has to share: it may not be judged on whom they learnt from.

    Raises:
        InputError: The teachers do not agree on it.
    """
    first = runs[0].split
    for run in runs[1:]:
        if [(i.path, i.split) for i in run.split.images] != [(i.path, i.split) for i in first.images]:
            raise InputError(f"{run.folder} and {runs[0].folder} have other splits; give teachers of one split")
    return first


def _require_same_sight(run: Run, config: TrainConfig) -> None:
    if run.config.preprocess != config.preprocess:
        raise InputError(
            f"the teacher {run.folder} was trained on {run.config.preprocess}, the student asks for "
            f"{config.preprocess}; give both recipes the same [preprocess]"
        )
    if run.config.model.outputs < config.model.outputs:
        raise InputError(
            f"the teacher {run.folder} has {run.config.model.outputs} outputs, the student {config.model.outputs}; "
            "give both the same model.outputs"
        )


def _key(runs: Sequence[Run], config: TrainConfig, train: TrainingSet) -> str:
    """Of all that the answers depend on: teachers, images and the batches drawn of them."""
    fit = config.fit
    told = [
        "evidence",
        REVISION,
        asdict(config.augment),
        asdict(train.spec),
        fit.seed,
        fit.batch,
        fit.balance,
        config.model.outputs,
        len(train.pixels),
    ]
    digest = hashlib.sha256(json.dumps(told).encode())
    for run in runs:
        digest.update((run.folder / "model.keras").read_bytes())
    digest.update(np.ascontiguousarray(train.pixels).data)
    digest.update(train.targets.tobytes())
    for known in (train.frequencies, train.lungs):
        if known is not None:
            digest.update(known.tobytes())
    return digest.hexdigest()[:32]
