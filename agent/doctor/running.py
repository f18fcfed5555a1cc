"""Running: what the running agent reports about its models, broker and cameras."""

from __future__ import annotations

import http.client

from pydantic import BaseModel

from agent.doctor.finding import Finding, fault, ok, warning
from agent.errors import ConfigError
from agent.remote import RemoteAgent

_TIMEOUT_S = 5.0


class _Mqtt(BaseModel):
    state: str
    reason: str | None
    queued: int


class _Readiness(BaseModel):
    reasons: list[str]
    warnings: list[str]
    mqtt: _Mqtt | None


def check_running(url: str) -> list[Finding]:
    """Reads the problems that the agent itself reports, from /readyz."""
    try:
        readiness = _Readiness.model_validate_json(RemoteAgent(url, timeout_s=_TIMEOUT_S).get("/readyz"))
    except (OSError, http.client.HTTPException, ConfigError) as error:
        remedy = "sudo systemctl start edge-agent; sudo journalctl -u edge-agent shows why it ended."
        return [fault("agent", f"No agent answers at {url}: {getattr(error, 'strerror', None) or error}.", remedy)]
    except ValueError:
        remedy = "Stop that server or correct http.port; ss -tlnp lists the servers."
        return [fault("agent", f"The server at {url} is not an edge-agent.", remedy)]
    reasons = [
        fault("agent", reason, "See the findings above and sudo journalctl -u edge-agent.")
        for reason in readiness.reasons
    ]
    warnings = [warning("agent", each, "edge-agent models list shows more.") for each in readiness.warnings]
    return [*(reasons or [ok("agent", f"ready at {url}")]), *warnings, *_check_mqtt(readiness.mqtt)]


def _check_mqtt(mqtt: _Mqtt | None) -> list[Finding]:
    if mqtt is None:
        return []
    if mqtt.state == "connected":
        return [ok("MQTT", f"connected, {mqtt.queued} results waiting")]
    reason = f"{mqtt.state}: {mqtt.reason or 'no answer yet'}"
    return [warning("MQTT", reason, "Results wait on this device until the broker accepts them.")]
