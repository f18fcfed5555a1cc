"""Running: what the running agent says of its models, its broker and its cameras."""

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
    """Its own word for what is wrong, from /readyz."""
    try:
        said = _Readiness.model_validate_json(RemoteAgent(url, timeout_s=_PATIENCE_S).get("/readyz"))
    except (OSError, http.client.HTTPException, ConfigError) as error:
        remedy = "sudo systemctl start edge-agent; sudo journalctl -u edge-agent says why it has ended."
        return [fault("agent", f"None answers at {url}: {getattr(error, 'strerror', None) or error}.", remedy)]
    except ValueError:
        remedy = "Stop it, or correct http.port: ss -tlnp tells what it is."
        return [fault("agent", f"What answers at {url} is no agent.", remedy)]
    reasons = [
        fault("agent", reason, "See the lines above, and sudo journalctl -u edge-agent.") for reason in said.reasons
    ]
    remarks = [warning("agent", remark, "edge-agent models list has more.") for remark in said.warnings]
    return [*(reasons or [ok("agent", f"It is ready at {url}")]), *remarks, *_of_mqtt(said.mqtt)]


def _of_mqtt(said: _Mqtt | None) -> list[Finding]:
    if said is None:
        return []
    if said.state == "connected":
        return [ok("MQTT", f"connected, {said.queued} waiting")]
    reason = f"{said.state}: {said.reason or 'no answer yet'}"
    return [warning("MQTT", reason, "Until then results wait on this device.")]
