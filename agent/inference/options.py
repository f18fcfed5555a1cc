"""Options: a caller's settings for one classification."""

from __future__ import annotations

from dataclasses import dataclass

from agent.framing import WHOLE, Framing


@dataclass(frozen=True, slots=True)
class Options:
    """`framing` is what is classified of the image. Without a `score_threshold`, the model's own counts.

    `version` is `stable`, `canary` or a number; if it is None, a share of the uploads goes to the canary.
    """

    model: str | None = None
    max_results: int = 5
    score_threshold: float | None = 0.0
    framing: Framing = WHOLE
    version: str | None = None
