"""Options: what a caller wants of one classification."""

from __future__ import annotations

from dataclasses import dataclass

UPLOAD = "upload"  # the source of every image that no camera took; no camera may have this name


@dataclass(frozen=True, slots=True)
class Options:
    """`region` is the part of the image to classify, in fractions of its sides; `rotate` turns it afterwards.

    `version` is `stable`, `canary` or a number; with None an upload gets the canary for its share of requests.
    """

    model: str | None = None
    max_results: int = 5
    score_threshold: float = 0.0
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    rotate: int = 0
    version: str | None = None
