"""FormerTopics: removes what the broker retains from runs in which this device had another name or base topic."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.host.durable import replace_file
from agent.mqtt.home_assistant.discovery import topic_of

if TYPE_CHECKING:
    from pathlib import Path

    from agent.mqtt.identity import Identity
    from agent.mqtt.message import Incoming
    from agent.mqtt.retained import Retained

log = logging.getLogger(__name__)

_BASE = re.compile(r"[^+#\x00/]+(/[^+#\x00/]+)+")
_OF_A_VIEW = "state|classification/[^/]+"
_OURS = re.compile(
    rf"status|info|profile|models/[^/]+|cameras/[^/]+/(status|enabled|health|(views/[^/]+/)?({_OF_A_VIEW}))"
)


class FormerTopics:
    """`file` has the base of the last run that was connected, such as edge-agent/pi-1; None remembers nothing.

    The host name may change, and with it the default of device.id. Nothing else says what it was before.
    """

    def __init__(self, file: Path | None, identity: Identity, *, retained: Retained) -> None:
        self._file = file
        self._base = identity.base
        self._retained = retained
        self._former = _read(file)
        self._found: dict[str, bytes] = {}
        self._discovery = topic_of(self._former.rpartition("/")[2]) if self._former else None
        if self._discovery == topic_of(identity.device):
            self._discovery = None  # it is published again, with the new topics
        is_another = self._former is not None and self._former != self._base
        self.filters = (f"{self._former}/#", *filter(None, [self._discovery])) if is_another else ()

    def take(self, incoming: Incoming) -> bool:
        """Whether the retained message is one of the former topics."""
        if not self.filters or incoming.topic in self._retained or not self._is_former(incoming.topic):
            return False
        self._found[incoming.topic] = incoming.payload
        return True

    def end(self) -> None:
        """Call it once the broker has sent what it retains: removes that, and remembers the current base."""
        if self._found.get(f"{self._former}/status") == b"online":
            log.warning(
                "This device published below %s before, where another one is online now. Its topics stay.", self._former
            )
        elif self._found:
            log.info(
                "Removing %d topics that the broker retains from the former name of this device, below %s.",
                len(self._found),
                self._former,
            )
            for topic in self._found:
                self._retained.remove(topic)
        if self._file is not None and self._former != self._base:
            asyncio.get_running_loop().run_in_executor(None, _write, self._file, self._base)

    def _is_former(self, topic: str) -> bool:
        prefix = f"{self._former}/"
        return topic == self._discovery or (
            topic.startswith(prefix) and _OURS.fullmatch(topic.removeprefix(prefix)) is not None
        )


def _read(file: Path | None) -> str | None:
    """None if it is missing or damaged."""
    try:
        base = "" if file is None else file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return base if _BASE.fullmatch(base) else None


def _write(file: Path, base: str) -> None:
    with suppress(OSError):  # the agent has reported that the state folder cannot be written
        replace_file(file, f"{base}\n".encode())
