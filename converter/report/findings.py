"""Findings: what the figures of a training mean, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converter.evaluation.evaluation import percent
from converter.training.dataset import ENOUGH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.training.assessment import Assessment
    from converter.training.training import Training

_CLEAR_GAIN = 0.02
_GOOD = 0.95
_SURE = 0.8


def in_short(training: Training) -> tuple[str, ...]:
    return tuple(_sentences(training))


def _sentences(training: Training) -> Iterator[str]:
    yield _how_checked(training)
    yield _weakest(training)
    confused = _most_confused(training)
    if confused is not None:
        yield confused
    if training.assessment is not None:
        yield _more_photos(training, training.assessment)
    yield from _certain(training)


def _how_checked(training: Training) -> str:
    if training.assessment is not None and not training.is_tuned:
        folds = len(np.unique(training.assessment.fold_of))
        return (
            f"The photos were divided into {folds} parts. {folds} times, a model was trained without one part and then "
            "asked about it. So each photo was judged by a model that had never seen it."
        )
    count = len(training.result.truth)
    apart = f"{count} photos were kept apart, and the model was asked about them only after the training."
    return (
        f"{apart} They also chose among the fine-tuned models, so expect a little less." if _chose(training) else apart
    )


def _chose(training: Training) -> bool:
    return training.is_tuned and training.partition.test is None


def _weakest(training: Training) -> str:
    figures, labels = training.result.figures, training.dataset.labels
    at = int(np.argmin(figures.recall))
    recall = float(figures.recall[at])
    if recall >= _GOOD:
        return f"Every class is recognized well; {labels[at]} is the hardest, with {percent(recall)}."
    count = int(figures.images[at])
    few = " That is a small number of photos: add more of this class first." if count < ENOUGH else ""
    return f"The hardest class is {labels[at]}: {percent(recall)} of its {count} photos are recognized.{few}"


def _most_confused(training: Training) -> str | None:
    counts = training.result.confusion.copy()
    np.fill_diagonal(counts, 0)
    if not counts.any():
        return None
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    labels, times = training.dataset.labels, int(counts[row, column])
    often = "once" if times == 1 else f"{times} times"
    return f"The most frequent mistake: {labels[row]} is taken for {labels[column]}, {often}."


def _more_photos(training: Training, assessment: Assessment) -> str:
    wanted = _wanted(assessment)
    if not wanted:
        return (
            "More photos of the same kind would help little: with half of them, the model is nearly as good. Photos "
            "in other light, with other backgrounds or from other distances still make it more robust."
        )
    at, *others = wanted
    labels, half, full = training.dataset.labels, *(float(recalls[at]) for recalls in assessment.recalls[-2:])
    after = f" After that: {', '.join(labels[each] for each in others[:2])}." if others else ""
    return (
        f"More photos of {labels[at]} would help most: with half of the photos, {percent(half)} of "
        f"this class were recognized, with all of them {percent(full)}.{after}"
    )


def _wanted(assessment: Assessment) -> list[int]:
    """The classes whose recall rose clearly when the photos were doubled, but is not good yet; the largest rise first.

    Of equal ones, the class with the lower recall comes first.
    """
    half, full = assessment.recalls[-2:]
    gains = full - half
    order: list[int] = np.lexsort((full, -gains)).tolist()
    return [at for at in order if gains[at] >= _CLEAR_GAIN and full[at] < _GOOD]


def _certain(training: Training) -> Iterator[str]:
    result = training.result
    sure = result.scores.max(axis=1) >= _SURE
    if sure.any():
        right = float((result.best == result.truth)[sure].mean())
        yield (
            f"If the model is sure (a score of {_SURE:.2f} or more, {percent(float(sure.mean()))} of the photos), it "
            f"is right in {percent(right)} of the cases."
        )
