"""DiscoveredDevice: builds this device's discovery message and decides when to send it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.mqtt.home_assistant.discovery import CameraEntities, discovery

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.mqtt.home_assistant.discovery import DeviceFacts
    from agent.mqtt.message import Message


class Models(Protocol):
    def labels(self, model: str | None) -> tuple[str, ...]:
        """Labels of the serving version of `model`, or of the first model if None; empty if none serves."""

    def serving(self) -> Sequence[str]:
        """Names of the models that have a serving version."""


@dataclass(frozen=True, slots=True)
class CameraFacts:
    model: str | None
    snapshots: bool


class DiscoveredDevice:
    """`facts` and `cameras` are called for each message."""

    def __init__(
        self, facts: Callable[[], DeviceFacts], *, cameras: Callable[[], Mapping[str, CameraFacts]], models: Models
    ) -> None:
        self._facts = facts
        self._cameras = cameras
        self._models = models
        self._shown: dict[str, str | None] = {}

    def message(self, former: bytes | None) -> Message:
        """`former` is the payload that the broker retains for this topic; entities missing since are removed."""
        cameras = [
            CameraEntities(name, self._models.labels(camera.model), camera.snapshots, self._shown.get(name))
            for name, camera in self._cameras().items()
        ]
        return discovery(self._facts(), cameras=cameras, models=self._models.serving(), former=former)

    def shows(self, camera: str, label: str | None) -> bool:
        """Returns whether to publish again: the options still list the last label of a former model."""
        before, self._shown[camera] = self._shown.get(camera), label
        return before is not None and before not in self._models.labels(self._cameras()[camera].model)


def page_url(host: str, port: int, *, scheme: str = "http", base_path: str = "") -> str | None:
    """The URL of the page for other devices; None if `host` is a loopback or wildcard address."""
    own = host == "localhost" or host.startswith("127.") or host in ("::1", "::", "0.0.0.0")  # noqa: S104
    return None if own else f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{base_path}/"
