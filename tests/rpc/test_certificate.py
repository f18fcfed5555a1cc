"""TLS with the files of HTTPS."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import grpc
import pytest
from agents.rpc_agent import rpc_agent
from agents.site import until
from peers.certificates import Authority

from agent.rpc.certificate import Certificate
from agent.rpc.protos import health_pb2
from agent.security.server_tls import ServerFiles

if TYPE_CHECKING:
    from pathlib import Path

CHECK = "/grpc.health.v1.Health/Check"


async def served(port: int, authority: Authority) -> bool:
    """Whether a new connection of a client that trusts the authority is answered."""
    trusted = grpc.ssl_channel_credentials(authority.ca_file.read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
        call = channel.unary_unary(CHECK)(health_pb2.HealthCheckRequest().SerializeToString(), timeout=10)
        code = await call.code()
    return bool(code == grpc.StatusCode.OK)


@pytest.mark.anyio
async def test_new_connection_gets_the_certificate_that_the_files_contain_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = Authority(tmp_path, "before"), Authority(tmp_path, "after")
    first, second = before.sign("first"), after.sign("second")
    async with rpc_agent(certificate=Certificate(ServerFiles(first.cert_file, first.key_file))) as agent:
        assert await served(agent.server.port, before)
        first.cert_file.write_bytes(second.cert_file.read_bytes())  # without its key
        assert await served(agent.server.port, before)
        assert "gRPC keeps the certificate that it has" in caplog.text
        shutil.copy(second.key_file, first.key_file)
        os.utime(first.key_file, (1, 1))  # another time than before, whatever the clock's resolution
        assert await served(agent.server.port, after)
        assert not await served(agent.server.port, before)
        assert await agent.reply(CHECK, b"") == grpc.StatusCode.UNAVAILABLE  # without TLS


@pytest.mark.anyio
async def test_server_starts_once_its_certificate_is_usable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.rpc.certificate._LOOK_EVERY_S", 0.01)
    authority = Authority(tmp_path)
    files = authority.sign("a")
    missing = tmp_path / "missing.key"
    async with rpc_agent(certificate=Certificate(ServerFiles(files.cert_file, missing))) as agent:
        assert "http.tls_key" in caplog.text
        assert "gRPC answers once this is fixed." in caplog.text
        missing.write_text("no key")
        await until(lambda: "gRPC does not answer yet" in caplog.text)
        shutil.copy(files.key_file, missing)
        await until(lambda: agent.server.port != 0)
        assert await served(agent.server.port, authority)


@pytest.mark.anyio
async def test_server_with_an_unusable_certificate_stops(tmp_path: Path) -> None:
    files = Authority(tmp_path).sign("a")
    async with rpc_agent(certificate=Certificate(ServerFiles(files.cert_file, tmp_path / "missing.key"))) as agent:
        assert agent.server.port == 0
