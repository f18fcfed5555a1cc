"""Collect: the keys of the configuration about the frames that are kept for training."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from agent.config.section import Section


def _bounds(between: tuple[float, float]) -> tuple[float, float]:
    lowest, highest = between
    if not 0 <= lowest < highest <= 1:
        raise ValueError("must be [lowest, highest] with 0 <= lowest < highest <= 1")
    return between


class CollectSection(Section):
    between: Annotated[tuple[float, float], AfterValidator(_bounds)] = Field(
        default=(0.4, 0.7), description="Lowest and highest best score of a frame that is kept."
    )
    per_day: int = Field(
        default=50,
        ge=0,
        description="How many frames to keep per day at most, with at least 24 h / `per_day` between two; 0: none.",
    )
    max_mb: int = Field(
        default=200, ge=1, description="Maximum size of the kept frames in MB; the oldest are removed first."
    )
