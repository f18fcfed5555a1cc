"""Findings: what the figures of a training mean, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from converter.evaluation.evaluation import percent
from converter.training.dataset import ENOUGH

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from converter.training.training import Training

    Floats: TypeAlias = npt.NDArray[np.float32]

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
    yield from _more_photos(training)
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
    return f"The hardest class is {labels[at]}: {percent(recall)} of its {figures.images[at]} photos are recognized."


def _most_confused(training: Training) -> str | None:
    counts = training.result.confusion.copy()
    np.fill_diagonal(counts, 0)
    if not counts.any():
        return None
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    labels, times = training.dataset.labels, int(counts[row, column])
    often = "once" if times == 1 else f"{times} times"
    return f"The most frequent mistake: {labels[row]} is taken for {labels[column]}, {often}."


def _more_photos(training: Training) -> Iterator[str]:
    """Classes with few photos come first: with half of a handful, nothing can be measured."""
    labels, recalls = training.dataset.labels, training.result.figures.recall
    counts = np.bincount(training.dataset.truth, minlength=len(labels))
    few = [at for at in range(len(labels)) if counts[at] < ENOUGH and recalls[at] < _GOOD]
    if few:
        named = ", ".join(f"{labels[at]} ({counts[at]} photos)" for at in few)
        yield f"Add photos to the classes that have few and are often not recognized: {named}."
    if training.assessment is None:
        return
    half, full = training.assessment.recalls[-2:]
    wanted = [at for at in _wanted(half, full) if at not in few]
    if wanted:
        at, *others = wanted
        after = f" After that: {', '.join(labels[each] for each in others[:2])}." if others else ""
        yield (
            f"More photos of {labels[at]} would help {'too' if few else 'most'}: with half of the photos, "
            f"{percent(float(half[at]))} of this class were recognized, with all of them {percent(float(full[at]))}."
            f"{after}"
        )
    elif not few:
        yield (
            "More photos of the same kind would help little. Photos in other light, with other backgrounds or from "
            "other distances still make the model more robust."
        )


def _wanted(half: Floats, full: Floats) -> list[int]:
    """The classes whose recall rose clearly when the photos were doubled, but is not good yet; the largest rise first.

    Of equal ones, the class with the lower recall comes first.
    """
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
