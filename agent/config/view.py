"""View: the keys of the configuration that each view of a camera can have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from agent.config.collect import CollectSection
from agent.config.section import Section

_DAY_S = 86_400


def _region(region: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = region
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError("must be [left, top, right, bottom] with 0 <= left < right <= 1 and 0 <= top < bottom <= 1")
    return region


class MotionSection(Section):
    enabled: bool = Field(default=False, description="Classify a frame only if the view has changed.")
    forced_every_s: float = Field(
        default=60,
        gt=0,
        le=_DAY_S,
        description="Seconds after which a frame is classified although the view has not changed.",
    )


class ViewSection(Section):
    model: str | None = Field(default=None, description="Model name. Default: the first by name.", examples=["birds"])
    region: Annotated[tuple[float, float, float, float], AfterValidator(_region)] = Field(
        default=(0.0, 0.0, 1.0, 1.0),
        description="Part of the picture to classify: left, top, right, bottom as fractions.",
    )
    max_results: int = Field(default=3, ge=1, description="Maximum number of categories in a Result.")
    score_threshold: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5,
        description="Lowest score of a category in a Result. `auto`: the model's own (`unknown_below`), or 0.5 if it "
        "has none.",
    )
    leave_threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The label of the state stays while its score is at least this and no other label reaches "
        "`score_threshold`. Default: `score_threshold`.",
        examples=[0.3],
    )
    stable_frames: int = Field(
        default=3, ge=1, description="Frames in a row with the same best label until it becomes the camera's state."
    )
    hold_s: float = Field(default=0, ge=0, le=_DAY_S, description="How long a state lasts at least, in seconds.")
    mean_frames: int = Field(
        default=1,
        ge=1,
        le=100,
        description="The state follows the mean of the scores of so many frames; 1: those of each frame. Results "
        "are not changed.",
    )
    motion: MotionSection = Field(
        default=MotionSection(), description="Skipping of frames that show nothing new, which saves computing time."
    )
    snapshots: bool = Field(default=False, description="Publish a JPEG over MQTT whenever the state changes.")

    collect: CollectSection | None = Field(
        default=None,
        description="Keep frames about which the model is not sure, in `<state_folder>/collection`, to train a better "
        "model. Default: none.",
        examples=[{"between": [0.4, 0.7]}],
    )

    @property
    def threshold(self) -> float | None:
        """None for the model's own."""
        return None if self.score_threshold == "auto" else self.score_threshold

    def completed(self, other: ViewSection) -> ViewSection:
        """With the keys of `other` for those that are not given here."""
        missing = ViewSection.model_fields.keys() - self.model_fields_set
        return self.model_copy(update={key: getattr(other, key) for key in missing})
