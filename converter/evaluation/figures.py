"""Figures: precision, recall and F1 of each class, from a confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassFigures:
    """One value per class: its number of `images` and `answers`; precision, recall and F1, 0 if no answer was right."""

    images: Ints
    answers: Ints
    precision: Floats
    recall: Floats
    f1: Floats

    @property
    def occurring(self) -> Ints:
        """Indices of the classes that occur, in the folder or among the answers."""
        return np.flatnonzero(self.images + self.answers)

    @property
    def macro_f1(self) -> float:
        return float(self.f1[self.occurring].mean())


def confusion_of(truth: Ints, answers: Ints, *, labels: int) -> Ints:
    """Counts, labels x labels: rows are the true class, columns the answer."""
    table = np.zeros((labels, labels), np.int64)
    np.add.at(table, (truth, answers), 1)
    return table


def class_figures(confusion: Ints) -> ClassFigures:
    right = confusion.diagonal().astype(np.float32)
    images, answers = confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassFigures(
        images=images,
        answers=answers,
        precision=right / np.maximum(answers, 1),
        recall=right / np.maximum(images, 1),
        f1=2 * right / np.maximum(images + answers, 1),
    )
