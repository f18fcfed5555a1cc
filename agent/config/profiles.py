"""Profiles: the keys of the profiles in the configuration, which change settings of cameras at certain times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from agent.config.faults import unknown_name_sentence
from agent.config.section import Name, Section
from agent.config.window import Window
from agent.errors import ConfigError
from agent.status import BY_CLOCK, NO_PROFILE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.config.camera import CameraSection
    from agent.config.view import ViewSection


def _windows(when: list[str]) -> list[str]:
    for text in when:
        Window.parse(text)
    return when


def _as_list(when: Any) -> Any:
    if not isinstance(when, str | list):  # also 22:00 without quotes, which YAML reads as the number 1320
        raise ValueError("must be times in quotes such as '22:00-06:00', or a list of them")  # noqa: TRY004  (for pydantic)
    return [when] if isinstance(when, str) else when


def _profile_name(name: str) -> str:
    if name in (BY_CLOCK, NO_PROFILE):
        raise ValueError(f"is reserved: {BY_CLOCK} means the clock, {NO_PROFILE} no profile; choose another name")
    return name


ProfileName = Annotated[Name, AfterValidator(_profile_name)]
When = Annotated[
    list[str],
    BeforeValidator(_as_list),
    AfterValidator(_windows),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


def _given(section: Section) -> dict[str, Any]:
    return {key: value for key, value in section if value is not None}


class ProfileViewSection(Section):
    """A missing key leaves the setting as it is."""

    score_threshold: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="Instead of that of `cameras`.", examples=[0.7]
    )
    leave_threshold: float | None = Field(
        default=None, ge=0, le=1, description="Instead of that of `cameras`.", examples=[0.5]
    )

    def applied(self, view: ViewSection) -> ViewSection:
        return view.model_copy(update=_given(self))


class ProfileCameraSection(ProfileViewSection):
    enabled: bool | None = Field(
        default=None,
        description="Switches the camera on or off when the profile begins; its end switches it back.",
        examples=[True],
    )
    max_fps: float | None = Field(default=None, gt=0, description="Instead of that of `cameras`.", examples=[1])
    views: dict[Name, ProfileViewSection] = Field(
        default={},
        description="The settings of its views, for a camera with views.",
        examples=[{"door": {"score_threshold": 0.8}}],
    )

    def applied_to(self, camera: CameraSection) -> CameraSection:
        views = {
            name: self.views[name].applied(view) if name in self.views else view for name, view in camera.views.items()
        }
        return camera.model_copy(update={**_given(self), "views": views})


class ProfileSection(Section):
    when: When = Field(
        default=[],
        description="When the profile is active, by the local time of the device: one window or a list of windows. A "
        "window ends on the next day if it ends before it begins; days, such as `mon-fri`, are those on which it "
        "begins. Without a window, the profile is active only while a person chooses it.",
        examples=["mon-fri 22:00-06:00"],
    )
    cameras: dict[Name, ProfileCameraSection] = Field(
        default={},
        description="The settings that it changes, for each camera.",
        examples=[{"front": {"score_threshold": 0.7}}],
    )

    @property
    def windows(self) -> list[Window]:
        return [Window.parse(text) for text in self.when]


def check_profiles(
    profiles: Mapping[str, ProfileSection],
    cameras: Mapping[str, CameraSection],
    *,
    place_of: Callable[[list[str]], str],
) -> None:
    """Raises ConfigError for a camera or view that is not configured, and for thresholds that do not fit.

    `place_of` returns where a key is.
    """
    for name, profile in profiles.items():
        for camera, changed in profile.cameras.items():
            path = ["profiles", name, "cameras", camera]
            if camera not in cameras:
                raise ConfigError(unknown_name_sentence(path, place_of(path), list(cameras)))
            views = cameras[camera].views
            for view in changed.views.keys() - views.keys():
                path += ["views", view]
                raise ConfigError(unknown_name_sentence(path, place_of(path), list(views)))
            try:
                changed.applied_to(cameras[camera]).check_thresholds()
            except ValueError as error:
                raise ConfigError(f"{place_of(path)}: {'.'.join(path)} {error}.") from None
