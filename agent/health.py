"""Health: whether the process is stuck, whether the device is ready, and what a person should fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.mqtt.session import MqttStatus
    from agent.status import ModelStatus

_STUCK_AFTER_S = 60.0


class Engine(Protocol):
    @property
    def oldest_call_s(self) -> float: ...


class Models(Protocol):
    @property
    def served(self) -> Mapping[str, object]: ...
    @property
    def statuses(self) -> Sequence[ModelStatus]: ...
    @property
    def troubles(self) -> Sequence[str]: ...


class Cameras(Protocol):
    def troubles(self) -> Sequence[str]: ...
    def stuck(self, *, after_s: float) -> str | None: ...


class Part(Protocol):
    @property
    def trouble(self) -> str | None: ...


class Mqtt(Protocol):
    @property
    def status(self) -> MqttStatus: ...


class Health:
    """Used by HTTP, by systemd's watchdog and by the metrics. Problems are reported as sentences."""

    def __init__(
        self, *, engine: Engine, models: Models, cameras: Cameras, mqtt: Mqtt | None, others: Sequence[Part] = ()
    ) -> None:
        """`mqtt` is None if it is disabled.

        Set `configuration_trouble` to why a changed configuration is not used.
        """
        self._engine = engine
        self._models = models
        self._cameras = cameras
        self._mqtt = mqtt
        self._others = others
        self.configuration_trouble: str | None = None

    def stuck(self) -> str | None:
        """The problem that only a restart can fix; None if every part makes progress or has reported its problem."""
        if self._engine.oldest_call_s > _STUCK_AFTER_S:
            return f"An inference has been running for {self._engine.oldest_call_s:.0f} s."
        return self._cameras.stuck(after_s=_STUCK_AFTER_S)

    def why_not_ready(self) -> list[str]:
        """Why the device is not ready: no model serves, or a camera has no frames or no model."""
        reasons = [] if self._models.served else ["No model is served yet.", *self.warnings()]
        return [*reasons, *self._cameras.troubles()]

    def warnings(self) -> list[str]:
        """Problems that do not stop the device but that a person should fix: an unreadable folder, rejected files."""
        rejections = [(status.name, status.rejection) for status in self._models.statuses if status.rejection]
        own = (self.configuration_trouble, *(part.trouble for part in self._others))
        return [
            *(each for each in own if each),
            *self._models.troubles,
            *(f"Model {name}: {why.reason}" for name, why in rejections),
        ]

    def mqtt(self) -> dict[str, Any] | None:
        """The state of the connection to the broker; None if MQTT is disabled."""
        return None if self._mqtt is None else self._mqtt.status.to_json()
