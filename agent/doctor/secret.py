"""Secret: whether others can read what systemd hands to the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, ok, warning

if TYPE_CHECKING:
    from pathlib import Path


def check_secret(path: Path) -> Finding | None:
    """None where there is none."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if mode & 0o077:
        return warning(path.name, f"Others than root can read {path}.", f"sudo chmod 600 {path}")
    return ok(path.name, f"{path}, for root alone")
