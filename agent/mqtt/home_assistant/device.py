"""DiscoveredDevice: builds this device's discovery message and decides when to send it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.mqtt.home_assistant.discovery import ViewEntities, discovery

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.classification import Spot
    from agent.mqtt.home_assistant.discovery import DeviceFacts
    from agent.mqtt.message import Message


class Models(Protocol):
    def labels(self, model: str | None) -> tuple[str, ...]:
        """Labels of the serving version of `model`, or of the first model if None; empty if none serves."""

    def serving(self) -> Sequence[str]:
        """Names of the models that have a serving version."""


@dataclass(frozen=True, slots=True)
class ViewFacts:
    model: str | None
    snapshots: bool
    is_judged: bool = False  # whether its camera has a health


class DiscoveredDevice:
    """`facts` and `views` are called for each message."""

    def __init__(
        self, facts: Callable[[], DeviceFacts], *, views: Callable[[], Mapping[Spot, ViewFacts]], models: Models
    ) -> None:
        self._facts = facts
        self._views = views
        self._models = models
        self._shown: dict[Spot, str | None] = {}

    def message(self, former: bytes | None) -> Message:
        """`former` is the payload that the broker retains for this topic; entities missing since are removed."""
        views = [
            ViewEntities(
                spot, self._models.labels(view.model), view.snapshots, self._shown.get(spot), is_judged=view.is_judged
            )
            for spot, view in self._views().items()
        ]
        return discovery(self._facts(), views=views, models=self._models.serving(), former=former)

    def shows(self, spot: Spot, label: str | None) -> bool:
        """Returns whether to publish again: the options still list the last label of a former model."""
        before, self._shown[spot] = self._shown.get(spot), label
        return before is not None and before not in self._models.labels(self._views()[spot].model)


def page_url(host: str, port: int, *, scheme: str = "http", base_path: str = "") -> str | None:
    """The URL of the page for other devices; None if `host` is a loopback or wildcard address."""
    own = host == "localhost" or host.startswith("127.") or host in ("::1", "::", "0.0.0.0")  # noqa: S104
    return None if own else f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{base_path}/"
