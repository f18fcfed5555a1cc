"""Throttling: whether heat or a weak power supply has slowed the board down lately."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from agent.host.board import is_throttled, power_alarms

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 5.0
_OVER_AFTER_S = 60.0  # a board that cools down because the load fell would be hot again at once


class Throttling:
    """The agent has one. It logs when throttling begins and when it is over."""

    def __init__(
        self,
        *,
        board: Callable[[], bool | None] = is_throttled,
        alarms: Callable[[], int] = power_alarms,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._alarms = alarms
        self._alarms_before = alarms()
        self._clock = clock
        self._looked_s = self._throttled_s = -math.inf
        self._is_active = False

    def __call__(self) -> bool:
        """Whether the board is throttled, or was within the last minute."""
        now_s = self._clock()
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s = now_s
            before, self._alarms_before = self._alarms_before, self._alarms()
            if self._board() or self._alarms_before > before:
                self._throttled_s = now_s
            self._set(now_s - self._throttled_s < _OVER_AFTER_S)
        return self._is_active

    def _set(self, is_active: bool) -> None:  # noqa: FBT001  (the new state)
        if is_active and not self._is_active:
            log.warning(
                "The board is throttled by heat or a weak power supply. Cameras classify half as many frames per "
                "second, and new versions are not judged by their speed. Cool the board or use a stronger supply."
            )
        elif self._is_active and not is_active:
            log.info("The board is not throttled any more. Cameras classify at their full rate again.")
        self._is_active = is_active


def never() -> bool:
    """For parts that run without the service."""
    return False
