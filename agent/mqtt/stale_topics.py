"""StaleTopics: removes topics of former cameras and models that the broker still retains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.classification import Spot
from agent.mqtt.home_assistant.discovery import topic_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.mqtt.identity import Identity
    from agent.mqtt.message import Incoming
    from agent.mqtt.retained import Retained

_OF_A_CAMERA = ("status", "enabled", "health")
_OF_A_VIEW = ("state", "classification/+")


class StaleTopics:
    """Finds them once per run by a short subscription to the agent's own retained topics.

    So the agent need not remember removed cameras and models.
    """

    def __init__(self, identity: Identity, *, cameras: Mapping[str, Sequence[Spot]], retained: Retained) -> None:
        """`cameras` may change."""
        self._base = base = identity.base
        self._cameras = cameras
        self._profile_topic = f"{base}/profile"
        self.discovery_topic = topic_of(identity.device)
        self._retained = retained
        self._classified: dict[Spot, set[str]] = {}
        self._shown: set[Spot] = set()
        self._unjudged: set[str] = set()
        self.discovery: bytes | None = None
        self.filters = (
            *(f"{base}/cameras/+/{part}" for part in (*_OF_A_CAMERA, *_OF_A_VIEW)),
            *(f"{base}/cameras/+/views/+/{part}" for part in _OF_A_VIEW),
            f"{base}/models/+",
            self._profile_topic,
            self.discovery_topic,
        )

    def take(self, incoming: Incoming) -> None:
        """Handles a retained message that matches one of the filters."""
        if incoming.topic == self.discovery_topic:
            self.discovery = incoming.payload
            return
        if incoming.topic in self._retained or not incoming.topic.startswith(f"{self._base}/"):
            return
        if incoming.topic == self._profile_topic:  # the configuration has no profiles any more
            self._retained.remove(incoming.topic)
            return
        kind, name, *rest = incoming.topic.removeprefix(f"{self._base}/").split("/")
        spot = Spot(name, rest[1]) if rest[:1] == ["views"] else Spot(name)
        is_label = "classification" in rest[-2:-1]
        is_of_camera = rest in ([part] for part in _OF_A_CAMERA)
        is_wanted = name in self._cameras if is_of_camera else spot in self._cameras.get(name, ())
        is_judged = rest != ["health"] or name not in self._unjudged
        if kind == "models" or not is_wanted or not is_judged or (is_label and spot in self._shown):
            self._retained.remove(incoming.topic)
        elif is_label:
            self._classified.setdefault(spot, set()).add(incoming.topic)

    def forget(self, before: Mapping[str, Sequence[Spot]]) -> None:
        """Removes the topics of those cameras and views of `before` that the configuration no longer has."""
        for camera in before.keys() - self._cameras.keys():
            for part in _OF_A_CAMERA:
                self._retained.remove(f"{self._base}/cameras/{camera}/{part}")
        for camera, spots in before.items():
            for spot in set(spots).difference(self._cameras.get(camera, ())):
                self._shown.discard(spot)
                for topic in (f"{self._base}/{spot.topic}/state", *self._classified.pop(spot, set())):
                    self._retained.remove(topic)

    def health_judged(self, camera: str, *, is_judged: bool) -> None:
        """Removes the topic of a camera whose health is not judged any more."""
        (self._unjudged.discard if is_judged else self._unjudged.add)(camera)
        if not is_judged and (topic := f"{self._base}/cameras/{camera}/health") in self._retained:
            self._retained.remove(topic)

    def classified(self, spot: Spot, topic: str) -> None:
        """The label of the view is now published on `topic`; removes the topics of its former models."""
        for other in self._classified.get(spot, set()) - {topic}:
            self._retained.remove(other)
        self._classified[spot] = {topic}
        self._shown.add(spot)
