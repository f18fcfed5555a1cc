"""Camera: the keys of one camera in the configuration."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from agent.config.camera_source import SourceSection
from agent.config.section import Name, Section
from agent.config.view import ViewSection
from agent.framing import Framing
from agent.sources.capture_options import CaptureOptions
from agent.sources.source import is_file_source, is_inbox

if TYPE_CHECKING:
    from agent.frame import Polygon

_CODES = {"mjpeg": "MJPG", "yuyv": "YUYV"}  # of V4L2
_CORNERS = 3  # of the smallest polygon


def _corners(mask: Any) -> Any:
    if isinstance(mask, list) and not all(isinstance(corner, list | tuple) for corner in mask):
        raise ValueError(
            "must be a list of corners [x, y]; masks is a list of such lists: add a pair of brackets around it."
        )
    return mask


def _mask(mask: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(mask) < _CORNERS or not all(0 <= x <= 1 and 0 <= y <= 1 for x, y in mask):
        raise ValueError("must be at least three corners [x, y], each a fraction from 0 to 1")
    if _crosses_itself(mask):  # what it encloses twice would stay visible
        raise ValueError("must not cross itself; give the corners in their order around the area, or use two masks")
    return mask


def _crosses_itself(corners: list[tuple[float, float]]) -> bool:
    edges = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    return any(
        _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0
        for (a, b), (c, d) in itertools.combinations(edges, 2)
    )


def _side(a: tuple[float, float], b: tuple[float, float], of: tuple[float, float]) -> float:
    """Positive on the one side of the line through `a` and `b`, negative on the other one."""
    return (b[0] - a[0]) * (of[1] - a[1]) - (b[1] - a[1]) * (of[0] - a[0])


Mask = Annotated[list[tuple[float, float]], BeforeValidator(_corners), AfterValidator(_mask)]


class CameraHealthSection(Section):
    enabled: bool = Field(
        default=True,
        description="Whether the pictures of a live camera are judged: covered, blurred, or moved since its reference "
        "picture was taken.",
    )
    frozen_after_s: float = Field(
        default=30,
        ge=0,
        description="Seconds with identical pictures after which a live camera is frozen; 0: never.",
    )


class CameraSection(ViewSection, SourceSection):
    max_fps: float = Field(
        default=5,
        gt=0,
        description="Maximum number of frames to classify per second. A video ignores it and keeps its own pace.",
    )
    rotate: Literal[0, 90, 180, 270] = Field(
        default=0, description="Degrees to rotate each view clockwise: 0, 90, 180 or 270."
    )
    mirror: bool = Field(default=False, description="Exchange left and right, after the rotation.")
    masks: list[Mask] = Field(
        default=[],
        description="Polygons that are filled black before anything else sees a frame, so that what is there never "
        "leaves the camera: corners [x, y] as fractions of the camera's own picture, before region, rotate and "
        "mirror.",
        examples=[[[[0, 0], [0.2, 0], [0.2, 0.2]]]],
    )
    views: dict[Name, ViewSection] = Field(
        default={},
        description="Several views of one camera, each with its own state, topics and entities; a key that a view "
        "leaves out is the camera's. Instead of `region`.",
        examples=[{"door": {"region": [0, 0, 0.5, 1]}}],
    )
    loop: bool = Field(default=False, description="Restart a video or a folder when it ends.")
    health: CameraHealthSection = Field(
        default=CameraHealthSection(), description="When the pictures of a camera say that it is out of order."
    )
    enabled: bool = Field(default=True, description="Start with the camera on; MQTT can turn it on and off.")

    def __eq__(self, other: object) -> bool:
        """Two are equal if they mean the same: a view that is given a default differs from one without that key."""
        if not isinstance(other, CameraSection):
            return NotImplemented
        return super().__eq__(other) and (not self.views or self.all_views == other.all_views)

    __hash__ = None  # type: ignore[assignment]  # it contains lists

    @property
    def all_views(self) -> dict[str | None, ViewSection]:
        """Every view with all its keys; one without a name if the camera has no `views`."""
        if not self.views:
            return {None: self}
        return {name: view.completed(self) for name, view in self.views.items()}

    def framing(self, view: ViewSection) -> Framing:
        return Framing(view.region, self.rotate, self.mirror)

    @property
    def polygons(self) -> tuple[Polygon, ...]:
        return tuple(tuple(mask) for mask in self.masks)

    @property
    def has_health(self) -> bool:
        """Whether its pictures are judged: only those of a live camera show the same place again and again."""
        return self.health.enabled and not is_inbox(self.source) and not is_file_source(self.origin)

    @property
    def made_by(self) -> str:
        """What a reference picture depends on, without passwords; another one is needed if it changes."""
        return self.model_dump_json(include={"source", "command", "size", "format", "controls", "rotate", "masks"})

    @property
    def capture_options(self) -> CaptureOptions:
        return CaptureOptions(
            size=self.size,
            fps=self.fps,
            format=_CODES[self.format] if self.format else None,
            controls=self.controls,
            transport=self.transport,
            frozen_after_s=self.health.frozen_after_s,
        )

    @model_validator(mode="after")
    def _views_have_the_regions(self) -> CameraSection:
        if self.views and "region" in self.model_fields_set:
            raise ValueError("has the keys views and region, which exclude each other; give each view its own region")
        return self

    @model_validator(mode="after")
    def _an_inbox_skips_no_image(self) -> CameraSection:
        if is_inbox(self.source) and any(view.motion.enabled for view in self.all_views.values()):
            raise ValueError("has motion enabled, but each image of an inbox is classified; remove motion")
        return self

    @model_validator(mode="after")
    def _a_state_is_left_below_where_it_is_entered(self) -> CameraSection:
        self.check_thresholds()
        return self

    def check_thresholds(self) -> None:
        """Raises ValueError. A profile may change one threshold and not the other."""
        for name, view in self.all_views.items():
            leave, enter = view.leave_threshold, view.threshold
            if leave is not None and enter is not None and leave > enter:
                of = "" if name is None else f" of the view {name}"
                raise ValueError(f"has a leave_threshold{of} above its score_threshold ({leave} > {enter}); lower it")
