"""Running: what the running agent reports about its models, broker and cameras."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from pydantic import BaseModel

from agent.doctor.finding import WITH_DETAILS, Finding, fault, ok, warning
from agent.errors import ConfigError
from agent.remote import RemoteAgent

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 5.0


class _Mqtt(BaseModel):
    state: str
    reason: str | None
    queued: int


class _Short(BaseModel):
    """What the agent shows without a token."""

    ready: bool


class _Readiness(BaseModel):
    reasons: list[str]
    warnings: list[str]
    mqtt: _Mqtt | None


def check_running(url: str, *, token: str | None = None, cert_file: Path | None = None) -> list[Finding]:
    """Reads the problems that the agent itself reports, from /readyz. `cert_file` is its certificate, with TLS."""
    try:
        _, answer = RemoteAgent(url, token=token, cert_file=cert_file, timeout_s=_TIMEOUT_S).get("/readyz")
        readiness = _parsed(answer)
    except (OSError, http.client.HTTPException, ConfigError) as error:
        remedy = "sudo systemctl start edge-agent; sudo journalctl -u edge-agent shows why it ended."
        return [fault("agent", f"No agent answers at {url}: {getattr(error, 'strerror', None) or error}.", remedy)]
    except ValueError:
        remedy = "Stop that server or correct http.port; ss -tlnp lists the servers."
        return [fault("agent", f"The server at {url} is not an edge-agent.", remedy)]
    if isinstance(readiness, _Short):
        return [_check_ready(readiness, url)]
    reasons = [
        fault("agent", reason, "See the findings above and sudo journalctl -u edge-agent.")
        for reason in readiness.reasons
    ]
    warnings = [warning("agent", each, "edge-agent models list shows more.") for each in readiness.warnings]
    return [*(reasons or [ok("agent", f"ready at {url}")]), *warnings, *_check_mqtt(readiness.mqtt)]


def _parsed(answer: bytes) -> _Readiness | _Short:
    """Raises ValueError if no agent sends this."""
    try:
        return _Readiness.model_validate_json(answer)
    except ValueError:
        return _Short.model_validate_json(answer, strict=True, extra="forbid")


def _check_ready(readiness: _Short, url: str) -> Finding:
    if readiness.ready:
        return ok("agent", f"ready at {url}; it shows its warnings only with a token (--token-file)")
    return fault("agent", f"The agent at {url} is not ready, and shows why only with a token.", WITH_DETAILS)


def _check_mqtt(mqtt: _Mqtt | None) -> list[Finding]:
    if mqtt is None:
        return []
    if mqtt.state == "connected":
        return [ok("MQTT", f"connected, {mqtt.queued} results waiting")]
    reason = f"{mqtt.state}: {mqtt.reason or 'no answer yet'}"
    return [warning("MQTT", reason, "Results wait on this device until the broker accepts them.")]
