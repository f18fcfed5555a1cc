"""Identity: under which topics this device publishes, and which cameras it has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """`boot` names this run of the agent."""

    device: str
    base_topic: str
    boot: str
    cameras: tuple[str, ...]

    @property
    def base(self) -> str:
        """Every topic of this device begins with it."""
        return f"{self.base_topic}/{self.device}"
