"""Heard: a listener that records every event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.listeners import Listener

if TYPE_CHECKING:
    from agent.classification import ModelIdentity, Result, Spot, StableState
    from agent.errors import AgentError
    from agent.status import ProfileStatus


class Heard(Listener):
    def __init__(self) -> None:
        self.results: list[Result] = []
        self.refusals: list[tuple[str, str | None, AgentError, ModelIdentity | None]] = []
        self.states: list[tuple[Spot, StableState]] = []
        self.snapshots: list[bytes] = []
        self.profiles: list[ProfileStatus] = []
        self.skipped_spots: list[Spot] = []

    def classified(self, result: Result) -> None:
        self.results.append(result)

    def refused(self, source: str, model: str | None, error: AgentError, *, by: ModelIdentity | None) -> None:
        self.refusals.append((source, model, error, by))

    def skipped(self, spot: Spot) -> None:
        self.skipped_spots.append(spot)

    def state_changed(self, spot: Spot, state: StableState) -> None:
        self.states.append((spot, state))

    def snapshot(self, spot: Spot, jpeg: bytes) -> None:
        self.snapshots.append(jpeg)

    def profile_changed(self, status: ProfileStatus) -> None:
        self.profiles.append(status)
