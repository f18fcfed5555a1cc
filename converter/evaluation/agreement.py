"""Agreement: how often a finished file and its source give the same label, compared with guessing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.image import Image
    from agent.runtimes.classifier import Classifier

_FEWEST = 20


@dataclass(frozen=True, slots=True)
class Agreement:
    """For `equal` of `images` images, the file and its source have the same best among `labels` labels."""

    images: int
    equal: int
    labels: int

    @property
    def chance(self) -> float:
        """The share that a file that guesses reaches: 1 / labels, plus two standard deviations (binomial)."""
        share = 1 / self.labels
        return min(1.0, share + 2 * math.sqrt(share * (1 - share) / self.images))

    @property
    def is_chance(self) -> bool:
        """Always False below 20 images, and for a single label."""
        return self.labels > 1 and self.images >= _FEWEST and self.equal < self.images * self.chance

    def __str__(self) -> str:
        return (
            f"The finished model and its source agree on only {self.equal} of {self.images} images "
            f"({100 * self.equal / self.images:.1f} %). A model that guesses among {self.labels} labels agrees on up "
            f"to {100 * self.chance:.1f} % (1/{self.labels} plus two standard deviations)."
        )


def best_indices(classifier: Classifier, images: Iterable[Image]) -> list[int | None]:
    """The index of the best label for each image, None if the scores are not finite. Raises ModelError."""
    return [_best_index(classifier, image) for image in images]


def agreement_of(source: Sequence[int | None], model: Sequence[int | None], *, labels: int) -> Agreement:
    equal = sum(one == other and one is not None for one, other in zip(source, model, strict=True))
    return Agreement(len(source), equal, labels)


def _best_index(classifier: Classifier, image: Image) -> int | None:
    try:
        scores, _ = classifier.scores(image)
    except NotFiniteError:
        return None
    (best,) = scores.best(1)
    return best.index
