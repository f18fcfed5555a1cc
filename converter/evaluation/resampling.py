"""Resampling: which way of scaling images fits the labels of a folder best, and so probably was that of training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from agent.model_file.settings import Resample

if TYPE_CHECKING:
    import numpy.typing as npt

    from converter.evaluation.answers import Answers, Ints
    from converter.evaluation.evaluation import Evaluation

    Floats = npt.NDArray[np.float64]

METHODS: tuple[Resample, ...] = get_args(Resample)

_CHANCE = 0.01
_MOST_COUNTED = 1000  # tosses; the normal distribution is close enough to more
_SMALLEST = 1 / 512  # a probability: quantized scores are 0 when the true ones are below half a step


@dataclass(frozen=True)
class Fit:
    """How well one method fits: `right` has for each image whether the answer is, `loss` -log(score of its label)."""

    method: Resample
    right: npt.NDArray[np.bool_]
    loss: Floats

    @classmethod
    def of(cls, method: Resample, answers: Answers, truth: Ints) -> Fit:
        scores = answers.scores[np.arange(len(truth)), truth].astype(np.float64)
        return cls(method, answers.best == truth, -np.log(np.clip(scores, _SMALLEST, 1)))

    @property
    def top1(self) -> float:
        return float(self.right.mean())

    @property
    def log_loss(self) -> float:
        return float(self.loss.mean())

    @property
    def figures(self) -> str:
        return f"{100 * self.top1:.1f} % correct and a log loss of {self.log_loss:.3f}"

    def to_json(self) -> dict[str, Any]:
        return {"resample": self.method, "top1": self.top1, "log_loss": round(self.log_loss, 6)}


@dataclass(frozen=True)
class ResamplingComparison:
    """One fit per method, on the same images; `used` is the method of the file and its sidecars."""

    fits: tuple[Fit, ...]
    used: Resample

    @property
    def best(self) -> Fit:
        """By accuracy; the log loss decides between equal ones, and the method in use if that is equal, too."""
        return max(self.fits, key=lambda fit: (fit.top1, -round(fit.log_loss, 6), fit.method == self.used))

    @property
    def current(self) -> Fit:
        return next(fit for fit in self.fits if fit.method == self.used)

    @property
    def chance(self) -> float:
        """How probable it is that `best` fits so much better than `current` only because of the choice of images."""
        if self.best is self.current:
            return 1.0
        return min(1.0, (len(self.fits) - 1) * _chance(self.best, self.current))

    @property
    def is_clear(self) -> bool:
        return self.chance <= _CHANCE

    @property
    def advice(self) -> str:
        best, current, count = self.best, self.current, len(self.current.right)
        if best is current:
            return f"resample: {current.method}, which the model uses, fits the labels of these {count} images best."
        figures = f"{best.figures}, against {current.figures} with {current.method}, which the model uses"
        if not self.is_clear:
            return (
                f"resample: {best.method} has {figures}. On {count} images this can be chance, so keep "
                f"{current.method}, or evaluate on more images."
            )
        return (
            f"resample: {best.method} fits the labels better: {figures}. That is not chance on these {count} images. "
            f"Convert again with --resample {best.method}, or put `resample: {best.method}` in the model's .yaml file."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "used": self.used,
            "best": self.best.method,
            "is_clear": self.is_clear,
            "methods": [fit.to_json() for fit in self.fits],
        }


def compare_resampling(evaluations: dict[Resample, Evaluation], *, used: Resample) -> ResamplingComparison:
    """The evaluations have the same labeled images."""
    fits = (Fit.of(method, each.model, each.truth) for method, each in evaluations.items())
    return ResamplingComparison(tuple(fits), used)


def _chance(best: Fit, other: Fit) -> float:
    """The smaller of two probabilities, doubled for the choice: that of the answers and that of the losses."""
    won = int((best.right & ~other.right).sum())
    lost = int((other.right & ~best.right).sum())
    by_answers = _tail(won, won + lost)
    gains = other.loss - best.loss
    better = int((gains > 0).sum())
    by_losses = _tail(better, better + int((gains < 0).sum())) if best.log_loss < other.log_loss else 1.0
    return min(1.0, 2 * min(by_answers, by_losses))


def _tail(heads: int, tosses: int) -> float:
    """The probability of at least `heads` heads when a fair coin is tossed."""
    if tosses > _MOST_COUNTED:
        return math.erfc((heads - 0.5 - tosses / 2) * math.sqrt(2 / tosses)) / 2
    cases: int = sum(math.comb(tosses, number) for number in range(heads, tosses + 1))
    return cases / (1 << tosses)
