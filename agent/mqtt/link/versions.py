"""VersionChoice: which MQTT version to try, 5 or 3.1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.mqtt.message import MqttVersion

_OTHER: dict[MqttVersion, MqttVersion] = {5: 311, 311: 5}


class VersionChoice:
    """`current` is the version of the connection, or of the next try."""

    def __init__(self, first: MqttVersion) -> None:
        self.current = first
        self._proven: MqttVersion | None = None
        self._fell_back = False

    @property
    def is_proven(self) -> bool:
        """Whether the broker once accepted the current version."""
        return self._proven == self.current

    def prove(self) -> None:
        """The broker accepted the current version."""
        self._proven, self._fell_back = self.current, False

    def undo(self) -> None:
        """The last try said nothing about the version, so the next one uses the previous version again."""
        if self._fell_back:
            self.current, self._fell_back = _OTHER[self.current], False

    def switch(self) -> bool:
        """Switches to the other version; returns whether to try it without a pause."""
        self.current = _OTHER[self.current]
        self._fell_back = not self._fell_back
        return self._fell_back
