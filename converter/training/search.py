"""Search: fine-tunes candidates while time is left, and keeps the one with the lowest loss on the photos held out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converter.training.fine_tuning import Candidate, Tuned

if TYPE_CHECKING:
    from converter.progress import Track
    from converter.training.checkpoint import Checkpoint
    from converter.training.fine_tuning import FineTuning

CANDIDATES = (
    Candidate(0.3, 1e-4),
    Candidate(0.6, 1e-4),
    Candidate(1.0, 1e-4),
    Candidate(0.6, 4e-4),
    Candidate(1.0, 3e-5),
    Candidate(0.3, 4e-4),
)


@dataclass(frozen=True, slots=True)
class Search:
    """The candidates that were tried, and the best; None if the head alone is better."""

    tried: tuple[Tuned, ...]
    best: Tuned | None


class Budget:
    """The time of the training, with that of earlier, interrupted runs."""

    def __init__(self, checkpoint: Checkpoint, *, minutes: float) -> None:
        self._checkpoint = checkpoint
        self._limit_s = 60 * minutes
        self._longest_s = 0.0
        self._asked = 0.0

    def has_time(self) -> bool:
        """Whether another step, as long as the longest so far, ends in time."""
        now = time.monotonic()
        if self._asked:
            self._longest_s = max(self._longest_s, now - self._asked)
        self._asked = now
        return self._checkpoint.spent_s + self._longest_s < self._limit_s


def search(tuning: FineTuning, *, loss: float, checkpoint: Checkpoint, budget: Budget, track: Track) -> Search:
    """`loss`: that of the head alone, on the photos held out."""
    tried = []
    for candidate in track(CANDIDATES, "Fine-tuning"):
        tuned = tuning.run(candidate, checkpoint, budget.has_time)
        if tuned is None:
            break
        tried.append(tuned)
    best = min(tried, key=lambda tuned: tuned.loss, default=None)
    return Search(tuple(tried), best if best is not None and best.loss < loss else None)
