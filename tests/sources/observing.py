"""Observers for tests of sources: records each status, and waits for a condition set by another thread."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import psutil

from agent.host.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.status import CameraState, CameraStatus

PATIENCE_S = 20  # far longer than any step in these tests takes


class Seen:
    """Records every status, and the threads that reported it."""

    def __init__(self) -> None:
        self.statuses: list[CameraStatus] = []
        self.threads: set[threading.Thread] = set()
        self._changed = asyncio.Event()

    def __call__(self, status: CameraStatus) -> None:
        self.statuses.append(status)
        self.threads.add(threading.current_thread())
        self._changed.set()

    async def until(self, *states: CameraState) -> CameraStatus:
        """Waits until these states, and no others, were reported; returns the last status."""
        while len(self.statuses) < len(states):
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), PATIENCE_S)
        assert tuple(status.state for status in self.statuses) == states, self.statuses
        return self.statuses[-1]


def soon() -> Backoff:
    return Backoff(first_s=0.01, longest_s=0.02)


async def until(condition: Callable[[], bool]) -> None:
    async def look() -> None:
        while not condition():  # noqa: ASYNC110  (another thread makes it true)
            await asyncio.sleep(0.002)

    await asyncio.wait_for(look(), PATIENCE_S)


def capture_processes() -> list[psutil.Process]:
    """Those of the live cameras that this process reads."""

    def is_one(child: psutil.Process) -> bool:
        try:
            return "agent.sources.capture_process" in child.cmdline()
        except psutil.Error:  # it has just ended
            return False

    return [child for child in psutil.Process().children() if is_one(child)]
