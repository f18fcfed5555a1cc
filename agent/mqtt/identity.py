"""Identity: the device's name, the prefix of its topics and the views of its cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.classification import Spot


@dataclass(frozen=True, slots=True)
class Identity:
    """`boot` identifies this run of the agent."""

    device: str
    base_topic: str
    boot: str
    cameras: Mapping[str, Sequence[Spot]]

    @property
    def base(self) -> str:
        """The prefix of every topic of this device."""
        return f"{self.base_topic}/{self.device}"
