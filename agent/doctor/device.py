"""Device: checks power, heat, clock, free space, wear of the eMMC, and whether memory limits are enforced."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from agent.doctor.finding import Finding, fault, ok, warning
from agent.host.board import is_throttled, temperature_celsius
from agent.host.clock import kernel_is_synced
from agent.models.listing import list_models

_CGROUP = Path("/sys/fs/cgroup")
_BLOCK = Path("/sys/block")
_WORN = 8  # tenths of the lifetime, as eMMC reports it (JEDEC 84-B51)


def check_memory_cgroup(cgroup: Path = _CGROUP) -> Finding:
    """Accepts cgroup version 2, or version 1 as on JetPack and older systems."""
    try:
        is_on = "memory" in (cgroup / "cgroup.controllers").read_text(encoding="ascii").split()
    except OSError:
        is_on = False
    if is_on or (cgroup / "memory").is_dir():
        return ok("memory limit", "The kernel limits the memory of each service.")
    return warning(
        "memory limit",
        "The memory cgroup is off: MemoryMax= has no effect.",
        "Add cgroup_enable=memory to the kernel's command line (on a Pi: /boot/firmware/cmdline.txt) and reboot.",
    )


def check_power() -> Finding:
    if is_throttled():
        return warning("power", "The board is currently throttled.", "Use a stronger power supply, or cool the board.")
    return ok("power", "not throttled" if is_throttled() is False else "The board does not report throttling.")


def check_heat(celsius: float | None = None) -> Finding:
    celsius = temperature_celsius() if celsius is None else celsius
    if celsius is None:
        return ok("heat", "No temperature sensor found.")
    if celsius >= 80:
        return warning("heat", f"{celsius:.0f} degrees Celsius", "Cool the board: it slows down from 80 degrees on.")
    return ok("heat", f"{celsius:.0f} degrees Celsius")


def check_clock() -> Finding:
    """TLS and the times in Results need a correct clock; a Pi has no clock that runs without power."""
    is_synced = kernel_is_synced()
    if is_synced is None:
        return ok("clock", "The system does not report whether it is synchronized.")
    if not is_synced:
        return warning(
            "clock", "The clock is not synchronized.", "Install systemd-timesyncd or chrony; see timedatectl."
        )
    return ok("clock", "synchronized")


def check_disk(folder: Path) -> Finding:
    while not os.path.exists(folder):  # noqa: PTH110  (Path raises for a closed folder)
        folder = folder.parent
    free_mb = shutil.disk_usage(folder).free >> 20
    fact, remedy = f"{free_mb} MB free for {folder}", "Free some space: journalctl --vacuum-size=32M, apt clean."
    if free_mb < 64:
        return fault("disk", fact, remedy)
    return warning("disk", fact, remedy) if free_mb < 512 else ok("disk", fact)


def check_drop_folder(folder: Path) -> Finding:
    try:
        listing = list_models(folder)
    except OSError as error:
        remedy = f"sudo systemd-tmpfiles --create, or mkdir -p {folder}; to list it, join the group edge-models."
        return fault("models", f"{folder}: {error.strerror}.", remedy)
    if listing.overlooked:
        return warning("models", listing.overlooked[0], "Follow it, and see the warnings of /readyz.")
    if not listing.found:
        return warning("models", f"No models in {folder}.", "Drop a .tflite file there, with its labels in it.")
    return ok("models", f"{len(listing.found)} found in {folder}")


def check_wear(block: Path = _BLOCK) -> Finding:
    """SD cards do not report their wear; eMMC does."""
    lifetimes = {
        path.parts[-3]: path.read_text(encoding="ascii").split() for path in block.glob("mmcblk*/device/life_time")
    }
    tenths = {name: max(int(value, 16) for value in values) for name, values in lifetimes.items() if values}
    worn = {name: used for name, used in tenths.items() if used > _WORN}
    if worn:
        name, used = max(worn.items(), key=lambda each: each[1])
        return warning("wear", f"{name} has used {used * 10} % of its lifetime.", "Replace it before it fails.")
    used_of_each = ", ".join(f"{name}: at most {used * 10} % used" for name, used in tenths.items())
    return ok("wear", used_of_each or "No eMMC found; SD cards do not report wear.")
