"""Fitted scores: the temperature and the unknown threshold of a finished model, and how well they do.

What is fitted to images flatters on the same images. So every reported figure is cross-fitted: each fifth of the
images is judged by a fit to the other four fifths. What is stored is fitted to all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from converter.evaluation.calibration_error import Reliability, reliability
from converter.evaluation.temperature import Outputs, fit_temperature, folds, log_loss
from converter.evaluation.unknown import UnknownThreshold, find_threshold

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.floating]
    Ints: TypeAlias = npt.NDArray[np.int64]

FEWEST = 30


@dataclass(frozen=True, slots=True)
class FittedScores:
    """`before` is without a temperature, `after` cross-fitted; `temperature` and `unknown` are None if not stored.

    The shares of `unknown` are cross-fitted. `sentences` say what came of both.
    """

    before: Reliability
    after: Reliability | None
    temperature: float | None
    unknown: UnknownThreshold | None
    sentences: tuple[str, ...]

    @property
    def settings(self) -> dict[str, float]:
        """What is packed into the model file."""
        values = {"temperature": self.temperature, "unknown_below": self.unknown.below if self.unknown else None}
        return {name: value for name, value in values.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "before": self.before.to_json(),
            "after": self.after.to_json() if self.after else None,
            "unknown": self.unknown.to_json() if self.unknown else None,
            "sentences": list(self.sentences),
        }


def fit_scores(outputs: Outputs, truth: Ints, others: Outputs | None = None) -> FittedScores:
    """`truth` has the index of the right label of each image; `others` are of images that show none of the labels.

    All scores must be finite.
    """
    before = reliability(outputs.scores, truth)
    if len(truth) < FEWEST:
        few = f"{len(truth)} labeled images are too few to fit a temperature or a threshold. Give at least {FEWEST}"
        return FittedScores(before, None, None, None, (f"The calibration error is {before.error:.3f}. {few}.",))
    if before.is_always_right:  # then the best temperature is 0, which says nothing about other images
        temperature, after, sentence = None, None, _unchanged(before, "every answer is right")
    else:
        temperature, after, sentence = _temperature(outputs, truth, before)
    unknown = _unknown(outputs, truth, others, temperature)
    rejects = f"{unknown}." if unknown.unknown_rejected != 0 else "No threshold rejects the images of other things."
    return FittedScores(
        before, after, temperature, unknown if unknown.unknown_rejected != 0 else None, (sentence, rejects)
    )


def _temperature(outputs: Outputs, truth: Ints, before: Reliability) -> tuple[float | None, Reliability, str]:
    """The temperature to store, the cross-fitted reliability, and what came of it."""
    scores, loss = np.empty_like(outputs.scores), 0.0
    for part in folds(len(truth)):
        fitted = fit_temperature(outputs.only(~part), truth[~part])
        scores[part] = outputs.only(part).at(fitted)
        loss += log_loss(outputs.only(part), truth[part], fitted) * int(part.sum())
    after, temperature = reliability(scores, truth), fit_temperature(outputs, truth)
    losses = log_loss(outputs, truth, 1), loss / len(truth)
    if objection := _objection(before.error, after.error, *losses):
        return None, after, _unchanged(before, f"{temperature:g} {objection}")
    changed = f"changes the calibration error from {before.error:.3f} to {after.error:.3f}"
    return temperature, after, f"The temperature {temperature:g} {changed}."


def _objection(error: float, error_after: float, loss: float, loss_after: float) -> str | None:
    """What speaks against the temperature, on images that it was not fitted to: the error, the likelihood, or both."""
    unlikely = f"make the right labels of other images less likely (log loss {loss_after:.4f} instead of {loss:.4f})"
    if error_after < error:
        return None if loss_after < loss else f"would lower the error to {error_after:.3f} but {unlikely}"
    not_lower = f"would not lower it on other images ({error_after:.4f} instead of {error:.4f})"
    return not_lower if loss_after < loss else f"{not_lower} and would {unlikely}"


def _unchanged(before: Reliability, reason: str) -> str:
    return f"The calibration error is {before.error:.3f}. No temperature is stored: {reason}."


def _unknown(outputs: Outputs, truth: Ints, others: Outputs | None, temperature: float | None) -> UnknownThreshold:
    """The threshold of all images, with cross-fitted shares of what thresholds reject."""
    below, count = _threshold(outputs, others, temperature), 0 if others is None else len(others.scores)
    known_rejected = others_rejected = 0
    for part, other in zip(folds(len(truth)), folds(count), strict=True):
        rest, rest_of_others = outputs.only(~part), None if others is None else others.only(~other)
        fitted = None if temperature is None else fit_temperature(rest, truth[~part])
        threshold = _threshold(rest, rest_of_others, fitted)
        known_rejected += _rejected(outputs.only(part), threshold, fitted)
        others_rejected += 0 if others is None else _rejected(others.only(other), threshold, fitted)
    return UnknownThreshold(below, known_rejected / len(truth), others_rejected / count if count else None, count)


def _threshold(outputs: Outputs, others: Outputs | None, temperature: float | None) -> float:
    best_of_others = None if others is None or not len(others.scores) else _best(others, temperature)
    return find_threshold(_best(outputs, temperature), best_of_others)


def _rejected(outputs: Outputs, threshold: float, temperature: float | None) -> int:
    return int((_best(outputs, temperature) < threshold).sum())


def _best(outputs: Outputs, temperature: float | None) -> Floats:
    best: Floats = outputs.at(temperature).max(axis=1)
    return best
