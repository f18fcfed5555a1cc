"""Result: scores of photos that the model was not trained on, compared with their true classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from converter.evaluation.figures import ClassFigures, class_figures, confusion_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]
    Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """One value of `photos` (index into the data set) and `truth`, and one row of `scores`, per photo."""

    photos: Ints
    truth: Ints
    scores: Floats

    @cached_property
    def best(self) -> Ints:
        return np.asarray(self.scores.argmax(axis=1))

    @property
    def accuracy(self) -> float:
        return float((self.best == self.truth).mean())

    @property
    def balanced_accuracy(self) -> float:
        return balanced_accuracy(self.scores, self.truth)

    @property
    def figures(self) -> ClassFigures:
        return class_figures(self.confusion)

    @property
    def confusion(self) -> Ints:
        return confusion_of(self.truth, self.best, labels=self.scores.shape[1])

    @property
    def wrong(self) -> Ints:
        """Positions of the photos with a wrong answer, the surest first."""
        positions = np.flatnonzero(self.best != self.truth)
        return np.asarray(positions[np.argsort(-self.scores[positions].max(axis=1), kind="stable")])


def balanced_accuracy(scores: Floats, truth: Ints) -> float:
    """The mean over the classes that occur of the share of their photos that is recognized."""
    figures = class_figures(confusion_of(truth, np.asarray(scores.argmax(axis=1)), labels=scores.shape[1]))
    return float(figures.recall[figures.images > 0].mean())
