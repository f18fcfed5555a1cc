"""Hidden: what the service's unit does not let it see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, fault

if TYPE_CHECKING:
    from pathlib import Path

# ProtectHome= and PrivateTmp= of deploy/systemd/edge-agent.service
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  (nothing is written there)
_REMEDY = "Move it, to /srv for one, or change ProtectHome= or PrivateTmp= by systemctl edit edge-agent."


def check_hidden(about: str, path: Path) -> Finding | None:
    """None where the service sees it. Root, who asks, sees everything."""
    if any(path.is_relative_to(folder) for folder in _HIDDEN):
        return fault(about, f"{path} is hidden from the service by its unit.", _REMEDY)
    return None
