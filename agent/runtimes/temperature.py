"""Temperature: one number T > 0 that makes the scores of a model mean what they say, without changing their order.

Every kind of output has logits, which are divided by T before they become probabilities again (Guo et al., On
Calibration of Modern Neural Networks, 2017). T above 1 lowers the confidence, T below 1 raises it.

| outputs | their logits | probabilities |
|---|---|---|
| logits | they are | softmax |
| a distribution p | log p | softmax |
| independent scores p | log p - log(1 - p) | sigmoid |

A quantized 0 or 1 stands for values up to half a step away, so its logarithm is that of such a value. The smallest
normal float32 is what a float 0 stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.floating]
    Float32s: TypeAlias = npt.NDArray[np.float32]

_SMALLEST = float(np.finfo(np.float32).tiny)
_BELOW_ONE = 2.0**-24  # the largest float32 below 1 is 1 less this


def log_probabilities(distribution: Floats, step: float) -> Floats:
    """Logits whose softmax is `distribution`; labels are on the last axis, `step` is the quantization step or 0.

    All zeros together count as at most half a step, however many labels there are.
    """
    floor = (step or _SMALLEST) / (2 * distribution.shape[-1])
    logarithms: Floats = np.log(np.maximum(distribution.astype(np.float64), floor))
    return logarithms


def log_odds(probabilities: Floats, step: float) -> Floats:
    """Logits whose sigmoid is `probabilities`; `step` is the quantization step or 0."""
    lowest, highest = (step or _SMALLEST) / 2, 1 - (step or _BELOW_ONE) / 2
    inside = np.clip(probabilities.astype(np.float64), lowest, highest)
    odds: Floats = np.log(inside) - np.log1p(-inside)
    return odds


def softmax(logits: Floats, temperature: float = 1.0) -> Float32s:
    """Sums to 1 over the last axis."""
    below = logits - logits.max(axis=-1, keepdims=True)
    if temperature != 1:
        below = below.astype(np.float64) / temperature
    powers = np.exp(below)
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def sigmoid(logits: Floats, temperature: float = 1.0) -> Float32s:
    """For each value alone."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits.astype(np.float64) / temperature)), np.float32)
