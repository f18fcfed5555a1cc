"""Running: what the agent that runs says of its models, its broker and its cameras."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from agent.checks.finding import Finding, fault, ok, warning

_PATIENCE_S = 5.0


def check_running(url: str) -> list[Finding]:
    """Its own word for what is wrong, from /readyz."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
    try:
        with opener.open(f"{url}/readyz", timeout=_PATIENCE_S) as answer:
            said = json.load(answer)
    except urllib.error.HTTPError as error:
        said = _json(error.read())
    except (OSError, ValueError) as error:
        return [
            fault(
                "agent",
                f"None answers at {url} ({error}).",
                "sudo systemctl start edge-agent; journalctl -u edge-agent",
            )
        ]
    reasons = [fault("agent", reason, "journalctl -u edge-agent has more.") for reason in said.get("reasons", ())]
    remarks = [warning("agent", remark, "edge-agent models list has more.") for remark in said.get("warnings", ())]
    return [*(reasons or [ok("agent", f"It is ready at {url}")]), *remarks, *_of_mqtt(said.get("mqtt"))]


def _of_mqtt(said: dict[str, Any] | None) -> list[Finding]:
    if said is None:
        return []
    if said["state"] == "connected":
        return [ok("MQTT", f"connected, {said['queued']} waiting")]
    reason = f"{said['state']}: {said['reason'] or 'no answer yet'}"
    return [warning("MQTT", reason, "Results wait meanwhile. Correct mqtt.host, username or the password.")]


def _json(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    return document if isinstance(document, dict) else {"reasons": ["What answers there is no agent."]}
