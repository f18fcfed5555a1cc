"""Minimize: L-BFGS (Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 3.1), deterministic."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]
    Pairs: TypeAlias = deque[tuple[Floats, Floats, float]]

_REMEMBERED = 10
_MOST_STEPS = 150
_SMALL_GRADIENT = 1e-5  # of the largest component
_SMALL_GAIN = 1e-5  # relative, of one step
_ENOUGH_DECREASE = 1e-4
_SHORTEST = 1e-8


def minimize(loss: Callable[[Floats], tuple[float, Floats]], start: Floats) -> Floats:
    """Near the minimum of a convex `loss`, which returns its value and its gradient."""
    at, pairs = start, deque[tuple["Floats", "Floats", float]](maxlen=_REMEMBERED)
    value, gradient = loss(at)
    for _ in range(_MOST_STEPS):
        if float(np.abs(gradient).max()) < _SMALL_GRADIENT:
            break
        direction = -_downhill(gradient, pairs)
        slope = float(direction @ gradient)
        step = 1.0 if pairs else min(1.0, 1 / float(np.abs(gradient).sum()))
        while True:
            moved = at + np.float32(step) * direction
            next_value, next_gradient = loss(moved)
            if next_value <= value + _ENOUGH_DECREASE * step * slope:
                break
            step /= 2
            if step < _SHORTEST:
                return at
        went, turned = moved - at, next_gradient - gradient
        if (curvature := float(went @ turned)) > 0:
            pairs.append((went, turned, 1 / curvature))
        gain = value - next_value
        at, value, gradient = moved, next_value, next_gradient
        if gain < _SMALL_GAIN * abs(value):
            break
    return at


def _downhill(gradient: Floats, pairs: Pairs) -> Floats:
    """The gradient, multiplied by the approximate inverse of the second derivatives."""
    direction, factors = gradient.copy(), []
    for went, turned, rho in reversed(pairs):
        factor = np.float32(rho * float(went @ direction))
        factors.append(factor)
        direction -= factor * turned
    if pairs:
        went, turned, rho = pairs[-1]
        direction *= np.float32(1 / (rho * float(turned @ turned)))
    for (went, turned, rho), factor in zip(pairs, reversed(factors), strict=True):
        direction += (factor - np.float32(rho * float(turned @ direction))) * went
    return np.asarray(direction)
