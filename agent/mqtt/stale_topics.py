"""StaleTopics: removes topics of former cameras and models that the broker still retains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.mqtt.home_assistant.discovery import topic_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from agent.mqtt.identity import Identity
    from agent.mqtt.message import Incoming
    from agent.mqtt.retained import Retained


class StaleTopics:
    """Finds them once per run by a short subscription to the agent's own retained topics.

    So the agent need not remember removed cameras and models.
    """

    def __init__(self, identity: Identity, *, cameras: Collection[str], retained: Retained) -> None:
        """`cameras` may change."""
        self._base = base = identity.base
        self._cameras = cameras
        self.discovery_topic = topic_of(identity.device)
        self._retained = retained
        self._classified: dict[str, set[str]] = {}
        self._shown: set[str] = set()
        self.discovery: bytes | None = None
        self.filters = (
            *(f"{base}/cameras/+/{part}" for part in ("state", "status", "enabled", "classification/+")),
            f"{base}/models/+",
            self.discovery_topic,
        )

    def take(self, incoming: Incoming) -> None:
        """Handles a retained message that matches one of the filters."""
        if incoming.topic == self.discovery_topic:
            self.discovery = incoming.payload
            return
        if incoming.topic in self._retained or not incoming.topic.startswith(f"{self._base}/"):
            return
        kind, name, *rest = incoming.topic.removeprefix(f"{self._base}/").split("/")
        if kind == "models" or name not in self._cameras or (rest[0] == "classification" and name in self._shown):
            self._retained.remove(incoming.topic)
        elif rest[0] == "classification":
            self._classified.setdefault(name, set()).add(incoming.topic)

    def forget(self, camera: str) -> None:
        """Removes the topics of a camera that is no longer in the configuration."""
        self._shown.discard(camera)
        topics = [f"{self._base}/cameras/{camera}/{part}" for part in ("state", "status", "enabled")]
        for topic in (*topics, *self._classified.pop(camera, set())):
            self._retained.remove(topic)

    def classified(self, camera: str, topic: str) -> None:
        """The camera's label is now published on `topic`; removes the topics of its former models."""
        for other in self._classified.get(camera, set()) - {topic}:
            self._retained.remove(other)
        self._classified[camera] = {topic}
        self._shown.add(camera)
