"""Calibration error: how far the scores of a model are from the share of right answers.

The expected calibration error of Naeini et al. (Obtaining Well Calibrated Probabilities Using Bayesian Binning, 2015)
as Guo et al. (On Calibration of Modern Neural Networks, 2017) use it: the best score of each image falls into one of
15 bins of equal width, and the error is the mean over the images of |share of right answers - mean best score| of
their bin. 0.05 means that a score of 0.9 is right in about 85 or 95 of 100 cases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.floating]
    Ints: TypeAlias = npt.NDArray[np.int64]

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """The images whose best score is above `low` and at most `high`: `score` is its mean, `right` a share."""

    low: float
    high: float
    images: int
    score: float
    right: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """`bins` are those with images, lowest first."""

    bins: tuple[Bin, ...]

    @property
    def images(self) -> int:
        return sum(each.images for each in self.bins)

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1."""
        return sum(each.images * abs(each.right - each.score) for each in self.bins) / self.images

    @property
    def is_always_right(self) -> bool:
        return all(each.right == 1 for each in self.bins)

    def to_json(self) -> dict[str, Any]:
        names = ("low", "high", "images", "score", "right")
        bins = [{name: round(getattr(each, name), 6) for name in names} for each in self.bins]
        return {"error": round(self.error, 6), "bins": bins}


def reliability(scores: Floats, truth: Ints) -> Reliability:
    """`scores` are images x labels, 0 to 1; `truth` has the index of the right label of each image."""
    best = scores.max(axis=1).astype(np.float64)
    right = scores.argmax(axis=1) == truth
    numbers = np.clip(np.ceil(best * BINS).astype(int) - 1, 0, BINS - 1)
    return Reliability(
        tuple(
            Bin(
                low=number / BINS,
                high=(number + 1) / BINS,
                images=int(inside.sum()),
                score=float(best[inside].mean()),
                right=float(right[inside].mean()),
            )
            for number in np.unique(numbers).tolist()
            for inside in (numbers == number,)
        )
    )
