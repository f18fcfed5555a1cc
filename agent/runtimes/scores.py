"""Scores: a model's output for one image, one value per label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agent.classification import Category
from agent.runtimes.temperature import log_odds, log_probabilities, sigmoid, softmax

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The model's own numbers, converted to probabilities only on request.

    `raw` is one-dimensional, one number per label. Its real values are scale x (raw - zero_point), or `raw` itself if
    `scale` is 0. If `are_logits`, a softmax makes them probabilities. `unknown_below` is the model's own threshold.

    With a `temperature`, the probabilities are those at this temperature; `step` is then the quantization step of the
    real values, 0 for float. If `are_independent`, each label has a probability of its own, and a sigmoid makes it.
    """

    raw: npt.NDArray[np.generic]
    labels: tuple[str, ...]
    scale: float
    zero_point: int
    are_logits: bool
    unknown_below: float | None = None
    temperature: float | None = None
    are_independent: bool = False
    step: float = 0.0

    def threshold(self, asked: float | None) -> float:
        """`asked`; if that is None, the model's own threshold, or 0.5 if it has none."""
        if asked is not None:
            return asked
        return 0.5 if self.unknown_below is None else self.unknown_below

    def best(self, count: int, *, threshold: float = -math.inf) -> tuple[Category, ...]:
        """At most `count` categories of at least `threshold`, the best first; among equals the lower index first."""
        order = _descending(self.raw)[:count]
        # A softmax needs every value; otherwise only the best values are computed.
        values = self._dequantized(self.raw[order]) if self._are_final else self.probabilities[order]
        return tuple(
            Category(index, self.labels[index], score)
            for index, score in zip(order.tolist(), values.tolist(), strict=True)
            if score >= threshold
        )

    @property
    def probabilities(self) -> npt.NDArray[np.float32]:
        """One per label, in the order of `labels`; computed at each call."""
        if self._are_final:
            return self._dequantized(self.raw)
        spread = sigmoid if self.are_independent else softmax
        return spread(self.logits, self.temperature or 1.0)

    @property
    def logits(self) -> npt.NDArray[np.floating]:
        """One per label: what `temperature` divides. Their softmax gives the probabilities without a temperature.

        If `are_independent`, their sigmoid does.
        """
        values = self._dequantized(self.raw)
        if self.are_logits:
            return values
        return log_odds(values, self.step) if self.are_independent else log_probabilities(values, self.step)

    @property
    def _are_final(self) -> bool:
        """Whether the real values are the probabilities."""
        return not self.are_logits and self.temperature is None

    def _dequantized(self, raw: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        return dequantized(raw, self.scale, self.zero_point)


def scores_of_one(
    raw: npt.NDArray[np.generic],
    labels: tuple[str, ...],
    *,
    scale: float,
    zero_point: int,
    are_logits: bool,
    unknown_below: float | None = None,
    temperature: float | None = None,
    step: float = 0.0,
) -> Scores:
    """For a model with one output p: a single label gets p; of two labels the first gets 1 - p and the second p.

    If `are_logits`, p is the sigmoid of the output.
    """
    (value,) = dequantized(raw, scale, zero_point).astype(np.float64)
    first = 0.0 if are_logits else 1 - value  # the softmax of 0 and a logit is its sigmoid
    values = (value,) if len(labels) == 1 else (first, value)
    return Scores(
        np.array(values, np.float32),
        labels,
        scale=0.0,
        zero_point=0,
        are_logits=are_logits,
        unknown_below=unknown_below,
        temperature=temperature,
        are_independent=len(labels) == 1,
        step=step,
    )


def dequantized(raw: npt.NDArray[np.generic], scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    """The real values: scale x (raw - zero_point), or `raw` itself if `scale` is 0."""
    values = raw.astype(np.float32)
    return (values - np.float32(zero_point)) * np.float32(scale) if scale else values


def _descending(raw: npt.NDArray[np.generic]) -> npt.NDArray[np.intp]:
    """Indices, the highest value first; among equals the lower index first."""
    # ~ reverses the order of signed and unsigned integers, which NumPy sorts by radix. Dequantizing keeps the order.
    reversed_order = np.negative(raw) if raw.dtype == np.float32 else np.invert(raw)
    order: npt.NDArray[np.intp] = reversed_order.argsort(kind="stable")
    return order
