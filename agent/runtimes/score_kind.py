"""Score kind: decides what a model's scores are from its outputs, if no setting and no last operator says it.

`values` are the real outputs for at least 16 varied images, one row per image and one column per label.

| kind | every value | every sum of a row | answered as |
|---|---|---|---|
| distribution | 0 to 1 | 1, within 0.02 plus half a quantization step per label | they are |
| independent | 0 to 1 | any, if not all are 1 | they are |
| percent | 0 to 100, some above 1 | 100, within 2 | divided by 100 |
| logits | anything else | | softmax |

A value may lie outside its range by one quantization step, or by a rounding error of float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.model_file.settings import Score

Kind = Literal["distribution", "independent", "percent", "logits"]

_SCORES: dict[Kind, Score] = {
    "distribution": "probability",
    "independent": "probability",
    "percent": "percent",
    "logits": "logits",
}
_ROUNDING = 1e-6  # relative; a mean of softmaxes in float32 may be 1.0000002


@dataclass(frozen=True, slots=True)
class SeenScores:
    """The decision about one output, by its index, with the extremes of its values and of their sums."""

    kind: Kind
    lowest: float
    highest: float
    lowest_sum: float
    highest_sum: float
    output: int = 0

    @property
    def score(self) -> Score:
        return _SCORES[self.kind]

    def __str__(self) -> str:
        return (
            f"{self.kind}, seen from {self.lowest:.4g} to {self.highest:.4g}, "
            f"with sums from {self.lowest_sum:.4g} to {self.highest_sum:.4g}"
        )


def seen_scores(values: npt.NDArray[np.floating], *, step: float, output: int = 0) -> SeenScores:
    """`step` is the quantization step of the outputs, 0 if they are not quantized. All values must be finite."""
    sums = values.sum(axis=1, dtype=np.float64)
    lowest, highest = float(values.min()), float(values.max())
    lowest_sum, highest_sum = float(sums.min()), float(sums.max())

    def within(top: float) -> bool:
        slack = step + _ROUNDING * top
        return -slack <= lowest and highest <= top + slack

    def sums_to(total: float, slack: float) -> bool:
        return total - slack <= lowest_sum and highest_sum <= total + slack

    kind: Kind = "logits"
    if within(1):
        kind = "distribution" if sums_to(1, 0.02 + step / 2 * values.shape[1]) else "independent"
    elif within(100) and highest > 1 and sums_to(100, 2):
        kind = "percent"
    return SeenScores(
        kind, round(lowest, 6), round(highest, 6), round(lowest_sum, 6), round(highest_sum, 6), output=output
    )
