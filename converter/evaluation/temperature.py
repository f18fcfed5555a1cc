"""Temperature: finds the one that makes the scores of a model mean what they say, by the negative log likelihood.

`truth` has the index of the right label of each image. Independent scores are judged by their best label: whether it
is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from agent.runtimes.temperature import log_probabilities, sigmoid, softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.floating]
    Flags: TypeAlias = npt.NDArray[np.bool_]
    Ints: TypeAlias = npt.NDArray[np.int64]

FOLDS = 5
_LOWEST, _HIGHEST = 1 / 20, 20.0
_PRECISION = 1e-5  # of log T
_GOLDEN = (math.sqrt(5) - 1) / 2
_ENOUGH = 4_000_000  # logits; more would take long and change the fourth digit


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """Of one model for some images: `scores` without a temperature and their `logits`, both images x labels.

    The logits are those of agent/runtimes/temperature.py, which can be computed from any scores.
    """

    scores: Floats
    logits: Floats
    are_independent: bool = False

    @classmethod
    def of_distributions(cls, scores: Floats) -> Outputs:
        """For scores in float, such as a softmax in training."""
        return cls(scores, log_probabilities(scores, 0))

    def at(self, temperature: float | None) -> Floats:
        """The scores at `temperature`, as the agent computes them."""
        if temperature is None:
            return self.scores
        return (sigmoid if self.are_independent else softmax)(self.logits, temperature)

    def only(self, images: Flags | slice) -> Outputs:
        return Outputs(self.scores[images], self.logits[images], self.are_independent)


def fit_temperature(outputs: Outputs, truth: Ints) -> float:
    """From 0.05 to 20, with four decimals; the same for the same values."""
    sample = slice(None, None, 1 + outputs.logits.size // _ENOUGH)  # even over the classes: images are sorted by class
    part, right = outputs.only(sample), truth[sample]
    lowest = _lowest_point(lambda at: log_loss(part, right, math.exp(at)), math.log(_LOWEST), math.log(_HIGHEST))
    return round(math.exp(lowest), 4)


def log_loss(outputs: Outputs, truth: Ints, temperature: float) -> float:
    """The mean negative log likelihood of the truth; it has one minimum over the temperature."""
    logits = outputs.logits.astype(np.float64) / temperature
    if outputs.are_independent:
        signs = np.where(logits.argmax(axis=1) == truth, -1.0, 1.0)
        return float(np.logaddexp(0, signs * logits.max(axis=1)).mean())
    below = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(below).sum(axis=1)) - below[np.arange(len(truth)), truth]).mean())


def folds(count: int) -> Iterator[Flags]:
    """Which of `count` images belong to each of five parts. If they are sorted by class, each part has every class."""
    numbers = np.arange(count) % FOLDS
    for fold in range(FOLDS):
        yield numbers == fold


def _lowest_point(value: Callable[[float], float], low: float, high: float) -> float:
    """The minimum of a function that falls and then rises, by golden section search."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = value(left), value(right)
    while high - low > _PRECISION:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = value(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = value(right)
    return (low + high) / 2
