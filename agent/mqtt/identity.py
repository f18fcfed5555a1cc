"""Identity: the device's name, the prefix of its topics and its cameras."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """`boot` identifies this run of the agent."""

    device: str
    base_topic: str
    boot: str
    cameras: tuple[str, ...]

    @property
    def base(self) -> str:
        """The prefix of every topic of this device."""
        return f"{self.base_topic}/{self.device}"
