"""DiskFaults: whether the outbox's folder is currently readable and writable."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from agent.mqtt.outbox.storage import Storage

    Access = Literal["reading", "writing"]

_logger = logging.getLogger(__name__)


class DiskFaults:
    """Logs when a fault starts, changes or ends."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._sentences: dict[Access, str] = {}

    @property
    def sentence(self) -> str | None:
        """What fails and what to do; None while nothing fails."""
        return next(iter(self._sentences.values()), None)

    def add(self, access: Access, error: OSError) -> None:
        sentence = (
            f"Cannot use the outbox folder {self._storage.folder}: {error.strerror}. Free some space or give the "
            "agent's user write access. Until then, at most "
            f"{self._storage.max_memory_bytes >> 20} MB of results wait in memory."
        )
        if sentence != self._sentences.get(access):
            _logger.warning("%s", sentence)
        self._sentences[access] = sentence

    def clear(self, access: Access) -> None:
        if self._sentences.pop(access, None) is not None:
            _logger.info("The outbox folder %s can be used again.", self._storage.folder)
