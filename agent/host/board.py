"""Board: reads the name, the temperature and the throttling state of the hardware."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import psutil

# Raspberry Pi firmware; bits 0 to 3 are the current state: under-voltage, frequency capped, throttled, too hot.
_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_NOW = 0xF
_SYSTEM = Path("/sys/class")
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


def is_throttled(path: Path = _THROTTLED, system: Path = _SYSTEM) -> bool | None:
    """Whether heat or a weak power supply currently slows the board down; None if the board does not report it.

    Of its power supply, a Jetson reports only power_alarms().
    """
    try:
        return bool(int(path.read_text(encoding="ascii"), 16) & _NOW)
    except (OSError, ValueError):
        states = [_number(alert / "cur_state") for alert in _heat_alerts(system)]
        return any(states) if states else None


def power_alarms(system: Path = _SYSTEM) -> int:
    """How often low voltage or overcurrent has slowed a Jetson down since it booted; 0 on other boards."""
    return sum(map(_number, _alarm_counters(system)))


@cache
def _heat_alerts(system: Path) -> tuple[Path, ...]:
    """Those cooling devices of a Jetson that are no hardware but stand for a limit, such as cpu-throttle-alert."""
    devices = sorted(system.glob("thermal/cooling_device*"))
    return tuple(device for device in devices if _text(device / "type").endswith("-alert"))


@cache
def _alarm_counters(system: Path) -> tuple[Path, ...]:
    chips = (chip for chip in system.glob("hwmon/hwmon*") if _text(chip / "name") == "soctherm_oc")
    return tuple(counter for chip in chips for counter in sorted(chip.glob("oc*_event_cnt")))


def _number(path: Path) -> int:
    try:
        return int(_text(path))
    except ValueError:
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def has_nvidia() -> bool:
    """Whether a driver of NVIDIA is loaded: of a card, of a Jetson, or of Windows under WSL."""
    return any(Path("/dev", name).exists() for name in ("nvidiactl", "nvhost-gpu", "dxg"))
