"""Lints the Dockerfile; tests/system/test_image.py runs its steps."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agents.site import site
from peers.certificates import Authority
from peers.mosquitto import free_port
from system.dockerfile import context, copied

from agent.security.server_tls import ServerFiles, ServerTls

_DOCKERFILE = Path(__file__).parents[2] / "deploy/docker/Dockerfile"
_HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.mark.skipif(not _HADOLINT.exists(), reason="hadolint has no wheel for this machine")
def test_hadolint_finds_no_problem() -> None:
    answer = subprocess.run([_HADOLINT, _DOCKERFILE], check=False, capture_output=True, text=True)
    assert answer.stdout + answer.stderr == ""


def test_the_build_context_contains_only_the_files_that_are_copied() -> None:
    assert set(context(_DOCKERFILE)) == copied(_DOCKERFILE)


def is_healthy(port: int) -> bool:
    """What the HEALTHCHECK of the image says about an agent at this port."""
    check = next(line for line in _DOCKERFILE.read_text().splitlines() if line.startswith("    CMD [")).strip()
    _, *words = json.loads(check.removeprefix("CMD "))
    environment = {**os.environ, "EDGE_AGENT_HTTP__PORT": str(port)}
    return subprocess.run([sys.executable, *words], check=False, capture_output=True, env=environment).returncode == 0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of the service."""
    return "asyncio", {"use_uvloop": True}


@pytest.mark.anyio
async def test_health_check_works_with_and_without_tls(tmp_path: Path) -> None:
    certificate = Authority(tmp_path).sign("pi-1", host="pi-1.local")
    for tls in (None, ServerTls(ServerFiles(certificate.cert_file, certificate.key_file))):
        async with site(tls=tls) as server:
            assert await asyncio.to_thread(is_healthy, server.port)
    assert not is_healthy(free_port())
