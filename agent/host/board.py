"""Board: reads the name, the temperature and the throttling state of the hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

# Raspberry Pi firmware; bits 0 to 3 are the current state: under-voltage, frequency capped, throttled, too hot.
_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_NOW = 0xF
_NAME = Path("/proc/device-tree/model")


def board_name(path: Path = _NAME) -> str | None:
    """Such as "Raspberry Pi 4 Model B Rev 1.4"; None on a PC."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def temperature_celsius() -> float | None:
    """The temperature of the hottest sensor; None without a sensor."""
    sensors: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    return max((reading.current for readings in sensors.values() for reading in readings), default=None)


def is_throttled(path: Path = _THROTTLED) -> bool | None:
    """Whether heat or a weak power supply currently slows the board down; None if the board does not report it."""
    try:
        return bool(int(path.read_text(encoding="ascii"), 16) & _NOW)
    except (OSError, ValueError):
        return None
