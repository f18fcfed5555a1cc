"""Listeners: the events that the parts of the agent announce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.classification import Category, ModelIdentity, Result, Spot, StableState
    from agent.errors import AgentError
    from agent.event import Event
    from agent.status import CameraHealth, CameraStatus, ModelStatus, ProfileStatus

TrialOutcome = Literal["admitted", "rejected"]
WithdrawalCause = Literal["crash", "failures", "nan", "slow", "operator"]


class Best(Protocol):
    """The category with the highest score, which may be lower than those of the categories of the Result."""

    def __call__(self) -> Category | None: ...


class Picture(Protocol):
    """What a view saw as a JPEG, whose longer side has at most `max_side` pixels. Blocks. Raises ImageError."""

    def __call__(self, max_side: int, *, quality: int = 85) -> bytes: ...


class Listener:
    """Override the events that you need. Each is called on the event loop's thread and must not block or raise."""

    def classified(self, result: Result) -> None:
        """An upload or a frame was classified and recorded."""

    def refused(self, source: str, model: str | None, error: AgentError, *, by: ModelIdentity | None) -> None:
        """An image was not classified; `model` is the requested name, `by` the version that failed on the image."""

    def batched(self, model: ModelIdentity, size: int) -> None:
        """So many instances were computed in one call; not for models that take one at a time."""

    def skipped(self, spot: Spot) -> None:
        """A frame was not classified, because the view has not changed."""

    def state_changed(self, spot: Spot, state: StableState) -> None:
        """The label of a view held for its `stable_frames`."""

    def looked(self, result: Result, best: Best, picture: Picture) -> None:
        """A view has looked at a frame; after state_changed() if that made a label stable.

        Call `best` only if you need it: of many labels, it takes a millisecond.

        Use `picture` at once or not at all: it holds the frame, and a live camera can have only four at a time.
        """

    def event(self, event: Event) -> None:
        """An event of a view has begun, has a better frame, or has ended."""

    def snapshot(self, spot: Spot, jpeg: bytes) -> None:
        """The picture that belongs to a new state."""

    def camera_changed(self, camera: str, status: CameraStatus) -> None:
        """A camera's status changed; also called when only the reason changed."""

    def camera_health_changed(self, camera: str, health: CameraHealth | None) -> None:
        """What the pictures of a live camera say changed; also called for its first ones. None: it is not judged."""

    def cameras_configured(self, spots: Mapping[str, Sequence[Spot]]) -> None:
        """The views of each camera of the configuration: at the start and when it changes.

        The status of new cameras follows.
        """

    def profile_changed(self, status: ProfileStatus) -> None:
        """Another profile is active, was chosen or was configured; also called at the start."""

    def model_changed(self, status: ModelStatus) -> None:
        """A model's status changed. When a model is forgotten, the last status has only its name."""

    def model_tried(self, model: str, outcome: TrialOutcome) -> None:
        """A dropped file was examined."""

    def version_withdrawn(self, model: str, cause: WithdrawalCause) -> None:
        """A version was withdrawn and must not serve any more."""

    def swap_gap(self, model: str, seconds: float) -> None:
        """A swap left the model without a version for `seconds`, since two versions did not fit into memory."""


class Listeners(Listener):
    """Passes every event to each listener, in the order in which they were added."""

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._listeners = list(listeners)

    def add(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def classified(self, result: Result) -> None:
        for listener in self._listeners:
            listener.classified(result)

    def refused(self, source: str, model: str | None, error: AgentError, *, by: ModelIdentity | None) -> None:
        for listener in self._listeners:
            listener.refused(source, model, error, by=by)

    def batched(self, model: ModelIdentity, size: int) -> None:
        for listener in self._listeners:
            listener.batched(model, size)

    def skipped(self, spot: Spot) -> None:
        for listener in self._listeners:
            listener.skipped(spot)

    def state_changed(self, spot: Spot, state: StableState) -> None:
        for listener in self._listeners:
            listener.state_changed(spot, state)

    def looked(self, result: Result, best: Best, picture: Picture) -> None:
        for listener in self._listeners:
            listener.looked(result, best, picture)

    def event(self, event: Event) -> None:
        for listener in self._listeners:
            listener.event(event)

    def snapshot(self, spot: Spot, jpeg: bytes) -> None:
        for listener in self._listeners:
            listener.snapshot(spot, jpeg)

    def camera_changed(self, camera: str, status: CameraStatus) -> None:
        for listener in self._listeners:
            listener.camera_changed(camera, status)

    def camera_health_changed(self, camera: str, health: CameraHealth | None) -> None:
        for listener in self._listeners:
            listener.camera_health_changed(camera, health)

    def cameras_configured(self, spots: Mapping[str, Sequence[Spot]]) -> None:
        for listener in self._listeners:
            listener.cameras_configured(spots)

    def profile_changed(self, status: ProfileStatus) -> None:
        for listener in self._listeners:
            listener.profile_changed(status)

    def model_changed(self, status: ModelStatus) -> None:
        for listener in self._listeners:
            listener.model_changed(status)

    def model_tried(self, model: str, outcome: TrialOutcome) -> None:
        for listener in self._listeners:
            listener.model_tried(model, outcome)

    def version_withdrawn(self, model: str, cause: WithdrawalCause) -> None:
        for listener in self._listeners:
            listener.version_withdrawn(model, cause)

    def swap_gap(self, model: str, seconds: float) -> None:
        for listener in self._listeners:
            listener.swap_gap(model, seconds)
