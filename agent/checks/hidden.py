"""Hidden: what the service's unit does not let it see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.checks.finding import Finding, fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# ProtectHome= and PrivateTmp= of deploy/systemd/edge-agent.service
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  (nothing is written there)


def check_hidden(paths: Mapping[str, Path]) -> Iterator[Finding]:
    """`paths` by their keys in the configuration. Root, who asks, sees them all."""
    for key, path in paths.items():
        if any(path.is_relative_to(folder) for folder in _HIDDEN):
            remedy = "Move it, to /srv for one, or change ProtectHome= or PrivateTmp= by systemctl edit edge-agent."
            yield fault(key, f"{path} is hidden from the service by its unit.", remedy)
