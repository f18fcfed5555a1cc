"""Unknown: finds the best score below which an image shows none of the labels.

`known` and `unknown` are the best scores of photos of the labels and of photos of other things.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.floating]

_MOST_REJECTED = 0.1


@dataclass(frozen=True, slots=True)
class UnknownThreshold:
    """`below` is the threshold; the shares are what it rejects. `others` is the number of photos of other things.

    `is_default`: the file has no threshold, so this is what the agent uses without one.
    """

    below: float
    known_rejected: float
    unknown_rejected: float | None = None
    others: int = 0
    is_default: bool = False

    def __str__(self) -> str:
        known = f"{100 * self.known_rejected:.1f} % of the known images"
        others = ""
        if self.unknown_rejected is not None:
            plural = "" if self.others == 1 else "s"
            others = f" and {100 * self.unknown_rejected:.1f} % of {self.others} image{plural} of other things"
        threshold = "The file has no unknown_below; the default" if self.is_default else "unknown_below"
        return f"{threshold} {self.below:g} rejects {known}{others}"

    def to_json(self) -> dict[str, Any]:
        return {
            "below": self.below,
            "known_rejected": round(self.known_rejected, 6),
            "unknown_rejected": None if self.unknown_rejected is None else round(self.unknown_rejected, 6),
            "others": self.others,
        }


def find_threshold(known: Floats, unknown: Floats | None = None) -> float:
    """The threshold that rejects the most unknown images and, of fresh known ones, on average at most a tenth.

    Of n known images, the k-th lowest score rejects k / (n + 1) of fresh ones, on average (conformal prediction, such
    as arXiv 2107.07511): fewer than nine images cannot promise a tenth. If several thresholds reject as many unknown
    images, it is the one that rejects the fewest known.
    """
    ordered = np.sort(known.astype(np.float64))
    lowest_kept = float(ordered[max(1, math.floor((len(ordered) + 1) * _MOST_REJECTED)) - 1])
    highest_rejected = lowest_kept - 0.01
    if unknown is not None:
        every = np.unique(np.concatenate([ordered, unknown.astype(np.float64)]))
        reached = unknown[unknown < lowest_kept]
        if not reached.size:
            return float(every[0])
        highest_rejected = float(reached.max())
        lowest_kept = float(every[every > highest_rejected][0])
    elif (rejected := ordered[ordered < lowest_kept]).size:
        highest_rejected = float(rejected[-1])
    return _between(highest_rejected, lowest_kept)


def what_is_rejected(below: float, known: Floats, unknown: Floats | None) -> UnknownThreshold:
    """Of scores, images x labels."""
    shares = [None if scores is None else float((scores.max(axis=1) < below).mean()) for scores in (known, unknown)]
    return UnknownThreshold(below, shares[0] or 0.0, shares[1], 0 if unknown is None else len(unknown))


def _between(low: float, high: float) -> float:
    """A short number above `low` and at most `high`."""
    middle = (low + high) / 2
    return next((short for digits in range(2, 8) if low < (short := round(middle, digits)) <= high), high)
