"""Profiles: changes settings of the cameras by the clock, or when a person chooses a profile."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

from agent.errors import ProfileNotFoundError
from agent.status import BY_CLOCK, NO_PROFILE, ProfileStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.config.profiles import ProfileCameraSection, ProfileSection
    from agent.listeners import Listener

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 30.0  # soon after a clock was set


class Cameras(Protocol):
    def adjust(self, profile: Mapping[str, ProfileCameraSection]) -> None: ...


def due(profiles: Mapping[str, ProfileSection], local: datetime) -> str | None:
    """The profile for a local time; of several, the first in the configuration."""
    return next((name for name, each in profiles.items() if any(w.includes(local) for w in each.windows)), None)


def local_time() -> datetime:
    time.tzset()  # the time zone of the device may have changed
    return datetime.now(timezone.utc).astimezone()


class Profiles:
    """What a person chose lasts until the next start, which follows the clock. On the event loop's thread."""

    def __init__(
        self,
        configured: Mapping[str, ProfileSection],
        *,
        cameras: Cameras,
        listener: Listener,
        now: Callable[[], datetime] = local_time,
    ) -> None:
        self._configured = configured
        self._cameras = cameras
        self._listener = listener
        self._now = now
        self._chosen = BY_CLOCK
        self._active: str | None = None

    @property
    def status(self) -> ProfileStatus:
        return ProfileStatus(self._active, self._chosen, tuple(self._configured))

    async def run(self) -> None:
        """Never returns."""
        while True:
            now = self._now()
            to_next_minute_s = 60 - now.second - now.microsecond / 1e6  # when a window begins or ends
            await asyncio.sleep(min(_LOOK_EVERY_S, to_next_minute_s))
            if self._wanted() != self._active:
                self.apply()

    def choose(self, choice: str) -> None:
        """`choice` is the name of a profile, `auto` or `none`. Raises ProfileNotFoundError."""
        if choice not in self.status.choices:
            raise ProfileNotFoundError(
                f"Profile {choice} does not exist. Choose one of these: {', '.join(self.status.choices)}."
            )
        self._chosen = choice
        self.apply()

    def reconfigure(self, configured: Mapping[str, ProfileSection]) -> None:
        """Call it after the cameras were reconfigured. If the chosen profile is gone, the clock decides again."""
        self._configured = configured
        if self._chosen not in self.status.choices:
            log.warning("The chosen profile %s is no longer in the configuration. The clock decides.", self._chosen)
            self._chosen = BY_CLOCK
        self.apply()

    def apply(self) -> None:
        """Uses the wanted profile and announces it."""
        self._active = self._wanted()
        self._cameras.adjust({} if self._active is None else self._configured[self._active].cameras)
        self._listener.profile_changed(self.status)

    def _wanted(self) -> str | None:
        if self._chosen == BY_CLOCK:
            return due(self._configured, self._now())
        return None if self._chosen == NO_PROFILE else self._chosen
