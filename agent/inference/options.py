"""Options: a caller's settings for one classification."""

from __future__ import annotations

from dataclasses import dataclass

UPLOAD = "upload"  # the source of every image that is not from a camera; a camera must not have this name


@dataclass(frozen=True, slots=True)
class Options:
    """`region` is the part of the image to classify, in fractions of its sides; it is then rotated by `rotate`.

    `version` is `stable`, `canary` or a number; if it is None, a share of the uploads goes to the canary.
    """

    model: str | None = None
    max_results: int = 5
    score_threshold: float = 0.0
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    rotate: int = 0
    version: str | None = None
