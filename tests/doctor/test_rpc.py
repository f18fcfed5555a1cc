from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from agent.config.sections import Config
from agent.doctor.rpc import check_grpc

if TYPE_CHECKING:
    import pytest


def config(**grpc: object) -> Config:
    return Config(grpc=grpc)  # type: ignore[arg-type]  # pydantic converts it


def test_grpc_that_is_off_is_not_checked() -> None:
    assert not list(check_grpc(config(), is_running=False))


def test_grpc_is_ok_when_its_port_is_free() -> None:
    (finding,) = check_grpc(config(enabled=True, port=0), is_running=False)
    assert (finding.level, finding.fact) == ("ok", "on, at 127.0.0.1:0")


def test_grpc_is_a_fault_when_another_program_uses_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (finding,) = check_grpc(config(enabled=True, port=port), is_running=False)
        assert finding.level == "fault"
        assert finding.fact == f"The agent could not listen on 127.0.0.1:{port}: Address already in use."
        (finding,) = check_grpc(config(enabled=True, port=port), is_running=True)
        assert finding.level == "ok"


def test_grpc_is_a_fault_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    (finding,) = check_grpc(config(enabled=True), is_running=False)
    assert finding.level == "fault"
    assert f"Install it: {sys.executable} -m pip install 'edge-agent[grpc]'." in finding.fact
