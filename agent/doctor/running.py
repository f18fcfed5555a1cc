"""Running: what the running agent reports about its models, broker and cameras."""

from __future__ import annotations

import http.client

from pydantic import BaseModel

from agent.doctor.finding import Finding, fault, ok, warning
from agent.errors import ConfigError
from agent.remote import RemoteAgent

_PATIENCE_S = 5.0


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
        said = _Readiness.model_validate_json(RemoteAgent(url, timeout_s=_PATIENCE_S).get("/readyz"))
    except (OSError, http.client.HTTPException, ConfigError) as error:
        remedy = "sudo systemctl start edge-agent; sudo journalctl -u edge-agent shows why it ended."
        return [fault("agent", f"No agent answers at {url}: {getattr(error, 'strerror', None) or error}.", remedy)]
    except ValueError:
        remedy = "Stop that server or correct http.port; ss -tlnp lists the servers."
        return [fault("agent", f"The server at {url} is not an edge-agent.", remedy)]
    reasons = [
        fault("agent", reason, "See the findings above and sudo journalctl -u edge-agent.") for reason in said.reasons
    ]
    remarks = [warning("agent", remark, "edge-agent models list shows more.") for remark in said.warnings]
    return [*(reasons or [ok("agent", f"ready at {url}")]), *remarks, *_of_mqtt(said.mqtt)]


def _of_mqtt(said: _Mqtt | None) -> list[Finding]:
    if said is None:
        return []
    if said.state == "connected":
        return [ok("MQTT", f"connected, {said.queued} results waiting")]
    reason = f"{said.state}: {said.reason or 'no answer yet'}"
    return [warning("MQTT", reason, "Results wait on this device until the broker accepts them.")]
