"""Unit: what systemd provides to the service and hides from it, and who can read the service's secrets."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from agent.doctor.finding import Finding, fault, ok, warning
from agent.host.access import Account

# ProtectHome= and PrivateTmp= of deploy/systemd/edge-agent.service
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  (nothing is written there)
_VISIBLE = "Move it, for example to /srv, or change ProtectHome= or PrivateTmp= with systemctl edit edge-agent."


@dataclass(frozen=True, slots=True)
class Unit:
    """The installed service: its configuration, whose folder also holds its credentials, StateDirectory= and user."""

    config: Path = Path("/etc/edge-agent/agent.yaml")
    state_folder: Path = Path("/var/lib/edge-agent/state")
    user: str = "edge-agent"

    def stand_in(self, path: Path | None) -> Path | None:
        """Gives this process the environment of the service if `path` is the service's configuration or None.

        Returns `path`, or the service's own configuration if there is one.
        """
        if path not in (None, self.config) or not self._is_installed():
            return path
        given = {"STATE_DIRECTORY": str(self.state_folder), "CREDENTIALS_DIRECTORY": str(self.config.parent)}
        for name, value in {**given, **_drop_in_variables()}.items():
            os.environ.setdefault(name, value)
        return self.config

    def _is_installed(self) -> bool:
        """Also true for a user who may not look: that the file may not be read is better than silent defaults."""
        try:
            self.config.stat()
        except PermissionError:
            return True
        except OSError:
            return False
        return True

    def account(self) -> Account | None:
        """The user of the service, with the groups of the unit and its drop-ins; None if that user does not exist."""
        shown = _shown("User", "Group", "SupplementaryGroups")
        groups = shown["SupplementaryGroups"] or "edge-models video"  # as in deploy/systemd/edge-agent.service
        return Account.named(shown["User"] or self.user, group=shown["Group"], groups=groups.split())

    def check_secrets(self) -> list[Finding]:
        """One finding for each secret of the service that exists."""
        secrets = (check_secret(self.config.with_name(name)) for name in ("mqtt_password", "mqtt_key"))
        return [finding for finding in secrets if finding is not None]


INSTALLED = Unit()


def check_hidden(about: str, path: Path) -> Finding | None:
    """None if the service can see `path`. The doctor itself runs as root, which can see every path."""
    if any(path.is_relative_to(folder) for folder in _HIDDEN):
        return fault(about, f"The unit hides {path} from the service.", _VISIBLE)
    return None


def check_secret(path: Path) -> Finding | None:
    """None if the file does not exist."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if mode & 0o077:
        return warning(path.name, f"Users other than root can read {path}.", f"sudo chmod 600 {path}")
    return ok(path.name, f"{path}, readable only by root")


def _drop_in_variables() -> dict[str, str]:
    """The agent's variables that drop-ins of the unit set; none if systemd does not answer."""
    settings = (word.partition("=") for word in shlex.split(_shown("Environment")["Environment"]))
    return {name: value for name, _, value in settings if name.startswith("EDGE_AGENT_")}


def _shown(*names: str) -> dict[str, str]:
    """These properties of the unit; empty ones if systemd does not answer."""
    command = ["systemctl", "show", f"--property={','.join(names)}", "edge-agent.service"]
    try:
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout  # noqa: S603  (systemd's)
    except (OSError, subprocess.SubprocessError):
        output = ""
    found = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    return {name: found.get(name, "") for name in names}
