"""Running: what the agent that runs says of its models, its broker and its cameras."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from pydantic import BaseModel

from agent.doctor.finding import Finding, fault, ok, warning

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
        said = _Readiness.model_validate_json(_read(f"{url}/readyz"))
    except (OSError, http.client.HTTPException) as error:
        remedy = "sudo systemctl start edge-agent; sudo journalctl -u edge-agent says why it has ended."
        cause = getattr(error, "reason", error)  # urllib wraps what the socket says
        return [fault("agent", f"None answers at {url}: {getattr(cause, 'strerror', None) or cause}.", remedy)]
    except ValueError:
        remedy = "Stop it, or correct http.port: ss -tlnp tells what it is."
        return [fault("agent", f"What answers at {url} is no agent.", remedy)]
    reasons = [
        fault("agent", reason, "See the lines above, and sudo journalctl -u edge-agent.") for reason in said.reasons
    ]
    remarks = [warning("agent", remark, "edge-agent models list has more.") for remark in said.warnings]
    return [*(reasons or [ok("agent", f"It is ready at {url}")]), *remarks, *_of_mqtt(said.mqtt)]


def _read(url: str) -> bytes:
    """Also when the answer is no."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
    try:
        answer = opener.open(url, timeout=_PATIENCE_S)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        content: bytes = answer.read()
    return content


def _of_mqtt(said: _Mqtt | None) -> list[Finding]:
    if said is None:
        return []
    if said.state == "connected":
        return [ok("MQTT", f"connected, {said.queued} waiting")]
    reason = f"{said.state}: {said.reason or 'no answer yet'}"
    return [warning("MQTT", reason, "Until then results wait on this device.")]
