"""Clock: the Unix time of moments, and whether the system's clock can be right yet.

Inside the agent, moments are those of time.monotonic_ns(), which no change of the system's clock moves. They become
Unix time only where a person or another program reads them.
"""

from __future__ import annotations

import ctypes
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agent.host.board import board_name

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_EARLIEST_S = 1_793_491_200  # 2026-11-01, before this software existed: a clock that lost its power starts in 1970
_TIMESYNCD = Path("/run/systemd/timesync")
_HARDWARE_CLOCKS = Path("/sys/class/rtc")
_AGREE_S = 60.0  # a hardware clock with a battery gave the system its time at the boot
_LOOK_EVERY_S = 1.0
_TIME_ERROR = 5  # of adjtimex(2): the clock is not synchronized
_OWN_STATUS = Path("/proc/self/status")


class Clock:
    """The system's clock. The agent has one, which all threads may use."""

    def __init__(
        self,
        *,
        kernel: Callable[[], bool | None] | None = None,
        timesyncd: Path = _TIMESYNCD,
        hardware_clocks: Path = _HARDWARE_CLOCKS,
        board: Callable[[], str | None] = board_name,
    ) -> None:
        self._kernel = kernel or kernel_is_synced
        self._timesyncd = timesyncd
        self._hardware_clocks = hardware_clocks
        self._board = board
        self._is_synced = False
        self._has_battery: bool | None = None
        self._looked_s: float | None = None

    @staticmethod
    def unix_ns(monotonic_ns: int) -> int:
        """By the clock as it is set now, so that a moment before a correction gets the corrected time."""
        return time.time_ns() - (time.monotonic_ns() - monotonic_ns)

    @property
    def is_synced(self) -> bool:
        """False only if the clock is certainly not set yet; once true, it stays true.

        That is a clock before 2026-11, or a board without a battery for its clock that no time server has corrected
        since it booted. PCs and virtual machines have a clock that runs while they are off. If neither the kernel nor
        systemd-timesyncd says anything, as in some containers, the clock counts as set.
        """
        now_s = time.monotonic()
        if not self._is_synced and (self._looked_s is None or now_s - self._looked_s >= _LOOK_EVERY_S):
            is_first, self._looked_s = self._looked_s is None, now_s
            self._is_synced = self._look()
            if not self._is_synced and is_first:
                log.warning("The clock is not set yet, so times may be wrong. Results have time_synced: false.")
            elif self._is_synced and not is_first:
                log.info("The clock is set.")
        return self._is_synced

    def _look(self) -> bool:
        if time.time() < _EARLIEST_S:
            return False
        kernel = self._kernel()
        if kernel or (self._timesyncd / "synchronized").exists():
            return True
        if self._has_battery is None:
            self._has_battery = self._board() is None or self._hardware_clock_agrees()
        is_unknown = kernel is None and not self._timesyncd.exists()
        return self._has_battery or is_unknown

    def _hardware_clock_agrees(self) -> bool:
        """Reading it may take milliseconds, so it is read once. Without a battery it counts from 1970 or 2000."""
        read_s = [_seconds(path) for path in self._hardware_clocks.glob("rtc*/since_epoch")]
        return any(abs(each - time.time()) < _AGREE_S for each in read_s)


class FileAges:
    """How long ago files changed, by their time stamps.

    A clock that jumps while the agent runs can only make a file seem newer, never older.
    """

    def __init__(self) -> None:
        self._ahead_s = time.time() - time.monotonic()

    def age_s(self, changed_at_s: float) -> float:
        """Seconds since the Unix time `changed_at_s`; may be negative."""
        return min(time.time(), time.monotonic() + self._ahead_s) - changed_at_s


def kernel_is_synced(own_status: Path = _OWN_STATUS) -> bool | None:
    """Whether a time server corrects the kernel's clock; None if the kernel cannot be asked.

    A process whose system calls are filtered does not ask. The service's unit forbids the call, because ProtectClock=
    does not distinguish reading from setting, and a filter may also kill.
    """
    if _are_calls_filtered(own_status):
        return None
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    state = -1 if adjtimex is None else adjtimex(ctypes.create_string_buffer(512))  # struct timex has 208 bytes
    return None if state == -1 else state != _TIME_ERROR


def _are_calls_filtered(own_status: Path) -> bool:
    try:
        return re.search("(?m)^Seccomp:\\t2$", own_status.read_text(encoding="ascii", errors="replace")) is not None
    except OSError:
        return False


def _seconds(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
