"""Who can use HTTP at which address, with the real command in its own process."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from agents.shell import Shell
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from pathlib import Path


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capfd)


def token_of(shell: Shell, folder: Path, scope: str) -> dict[str, str]:
    """Makes a token as a user does; returns the header with it."""
    assert shell.run("token", "create", scope, "--scope", scope, "--config", folder / "agent.yaml") == 0, shell.err
    return {"Authorization": f"Bearer {shell.out.strip()}"}


def code(url: str, headers: dict[str, str] | None = None) -> int:
    return httpx.get(url, headers=headers, timeout=10, verify=False, trust_env=False).status_code


@pytest.mark.mosquitto
def test_an_old_configuration_keeps_cameras_and_mqtt_and_closes_http_until_a_token_exists(
    tmp_path: Path, shell: Shell
) -> None:
    camera = {"source": str(VIDEO), "loop": True}
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard:
        mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port}
        agent = RunningAgent(tmp_path, http={"host": "0.0.0.0"}, mqtt=mqtt, cameras={"film": camera})
        agent.drop(DIGITS.read_bytes())
        with agent:
            wait_until(lambda: heard.of("/cameras/film/result"), what="the camera's results arrive over MQTT")
            assert "HTTP at 0.0.0.0 answers 401 to every client" in agent.log
            refused = agent.get("/metrics")
            assert refused.status_code == 401
            assert "sudo edge-agent token create NAME --scope read" in refused.json()["error"]
            assert agent.get("/readyz").json() == {"ready": True}
            assert agent.get("/healthz").status_code == 200
            header = token_of(shell, tmp_path, "read")
            assert code(f"{agent.url}/metrics", header) == 200
            assert agent.get("/metrics").status_code == 401
            agent.end()
        assert agent.process.returncode == 0


def test_revoking_a_token_closes_a_running_agent_and_anonymous_opens_it(tmp_path: Path, shell: Shell) -> None:
    header = {}
    with RunningAgent(tmp_path) as agent:
        assert agent.get("/metrics").status_code == 200
        header = token_of(shell, tmp_path, "read")
        with httpx.Client(headers=header, verify=False, trust_env=False) as client:
            assert client.get(f"{agent.url}/metrics").status_code == 200
            assert shell.run("token", "revoke", "read", "--config", tmp_path / "agent.yaml") == 0
            assert client.get(f"{agent.url}/metrics").status_code == 401  # on the same connection
        agent.end()
    with RunningAgent(tmp_path, http={"host": "0.0.0.0", "anonymous": True}) as agent:
        assert agent.get("/metrics").status_code == 200
        assert "answers 401" not in agent.log


@_ipv6
@pytest.mark.parametrize(("host", "is_open"), [pytest.param("::1", True, marks=pytest.mark.long), ("::", False)])
def test_ipv6_addresses_follow_the_same_rules(tmp_path: Path, shell: Shell, host: str, *, is_open: bool) -> None:
    http: dict[str, Any] = {"host": host}
    with RunningAgent(tmp_path, http=http) as agent:
        assert f"HTTP http://[{host}]:{agent.port}/, " in agent.log
        assert code(f"http://[::1]:{agent.port}/metrics") == (200 if is_open else 401)
        if host == "::":
            assert agent.get("/metrics").status_code == 401  # over IPv4
        header = token_of(shell, tmp_path, "read")
        assert code(f"http://[::1]:{agent.port}/metrics", header) == 200
        assert code(f"http://[::1]:{agent.port}/metrics") == 401
