"""Commands: the requests and camera commands that this agent accepts over MQTT."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError
from agent.mqtt.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from agent.mqtt.identity import Identity
    from agent.mqtt.message import Incoming, Message

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Actions:
    """`classify` returns the JSON of a Result for an image and a model name, or raises AgentError.

    `set_enabled` turns a camera on or off, `choose_profile` raises AgentError for an unknown name. `retake_reference`
    takes a new reference picture of a camera, and returns False if its health is not judged. `shared` is
    `$share/<group>/<topic>`: the broker distributes the images published to that topic among the agents of the group.
    An agent takes part while its `has_model` returns true. An image has at most `max_bytes`; `workers` is the number
    of images processed at the same time.
    """

    classify: Callable[[bytes, str | None], Awaitable[dict[str, Any]]]
    set_enabled: Callable[[str, bool], None]
    choose_profile: Callable[[str], None]
    has_model: Callable[[], bool]
    shared: str | None
    max_bytes: int
    workers: int
    retake_reference: Callable[[str], bool]


class Commands:
    """Handles the messages that match its `filters`; calls `acknowledge` once a message was handled.

    `cameras` may change.
    """

    def __init__(
        self,
        actions: Actions,
        identity: Identity,
        *,
        cameras: Collection[str],
        answer: Callable[[Message], None],
        acknowledge: Callable[[Incoming], None],
    ) -> None:
        base = identity.base
        self._set_enabled = actions.set_enabled
        self._choose_profile = actions.choose_profile
        self._retake_reference = actions.retake_reference
        self._cameras = cameras
        self._acknowledge = acknowledge
        self._command = re.compile(re.escape(base) + "/cameras/([^/]+)/(enabled|reference)/set")
        self._image_topics = {f"{base}/classify"}
        self._profile_topic = f"{base}/profile/set"
        of_cameras = [f"{base}/cameras/+/{what}/set" for what in ("enabled", "reference")]
        self.filters = [f"{base}/classify", *of_cameras, self._profile_topic]
        self.shared = actions.shared
        self.has_model = actions.has_model
        if actions.shared is not None:
            self._image_topics.add(actions.shared.split("/", 2)[2])
        self._requests = Requests(
            classify=actions.classify,
            answer=answer,
            acknowledge=acknowledge,
            own_topics=identity.base_topic,  # includes the topics of other devices
            max_bytes=actions.max_bytes,
            workers=actions.workers,
        )

    async def run(self) -> None:
        """Never returns."""
        await self._requests.run()

    def take(self, incoming: Incoming) -> bool:
        """Returns False if the message is not a command."""
        if incoming.topic in self._image_topics:
            self._requests.put(incoming)
            return True
        command = self._command.fullmatch(incoming.topic)
        if command is None and incoming.topic != self._profile_topic:
            return False
        if incoming.retained:  # an old command, which the broker would send again after every connect
            _logger.warning(
                "Ignored a retained command on %s. Publish commands without the retain flag.", incoming.topic
            )
        elif command is None:
            self._use_profile(incoming)
        elif command[2] == "enabled":
            self._switch_camera(command[1], incoming)
        else:
            self._retake(command[1], incoming)
        self._acknowledge(incoming)
        return True

    def _use_profile(self, incoming: Incoming) -> None:
        try:
            self._choose_profile(incoming.payload.decode(errors="replace").strip())
        except AgentError as error:
            _logger.warning("Ignored a command on %s: %s", incoming.topic, error)

    def _switch_camera(self, camera: str, incoming: Incoming) -> None:
        value = incoming.payload.strip().upper()
        if camera not in self._cameras or value not in (b"ON", b"OFF"):
            _logger.warning(
                "Ignored a command on %s: send ON or OFF, for a camera of the configuration.", incoming.topic
            )
        else:
            self._set_enabled(camera, value == b"ON")

    def _retake(self, camera: str, incoming: Incoming) -> None:
        if incoming.payload.strip().upper() != b"TAKE" or not self._retake_reference(camera):
            _logger.warning(
                "Ignored a command on %s: send TAKE, for a live camera (not a video, folder or inbox) of the "
                "configuration with health.enabled.",
                incoming.topic,
            )
