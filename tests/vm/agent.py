"""Configures the service in an emulated machine, and sends requests to it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import httpx
import yaml

if TYPE_CHECKING:
    from vm.machine import Machine

_SERVES = "curl -sS http://127.0.0.1:8501/v1/models/digits | grep -q AVAILABLE"


def configure(machine: Machine, **sections: dict[str, Any]) -> None:
    """Writes agent.yaml for the device `test`, whose HTTP is reachable from this machine, and restarts the service."""
    config = {"device": {"id": "test"}, "http": {"host": "0.0.0.0", "anonymous": True}, **sections}
    machine.run(
        f"cat >/etc/edge-agent/agent.yaml <<'END'\n{yaml.safe_dump(config)}END\nsync\nsystemctl restart edge-agent"
    )


def wait_until_served(machine: Machine, *, timeout_s: float = 120) -> None:
    machine.wait_for(_SERVES, timeout_s=timeout_s)


def classify_upload(machine: Machine, image: bytes) -> dict[str, Any]:
    """Uploads an image and returns its Result."""
    url = f"http://127.0.0.1:{machine.port}/predict"
    answer: dict[str, Any] = httpx.post(url, content=image, timeout=30, trust_env=False).raise_for_status().json()
    return answer


def readiness(machine: Machine) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"http://127.0.0.1:{machine.port}/readyz", timeout=30, trust_env=False).json()
    return answer


def withdrawn(machine: Machine) -> dict[str, str]:
    """The reasons why versions of `digits` were rejected, by SHA-256."""
    url = f"http://127.0.0.1:{machine.port}/api/models/digits"
    versions = httpx.get(url, timeout=30, trust_env=False).raise_for_status().json()["versions"]
    return {each["sha256"]: each["reason"] for each in versions if each["state"] == "rejected"}


def drop(machine: Machine, content: bytes, name: str = "digits") -> None:
    """Drops the file atomically."""
    text, folder = base64.b64encode(content).decode(), "/var/lib/edge-agent/models"
    machine.run(f"echo {text} | base64 --decode >{folder}/.new; mv {folder}/.new {folder}/{name}.tflite")
