from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from agent.host.names import own_names

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("hostname", ["Pi-1", "pi-1.plant.example", "pi-1."])
def test_own_names_come_from_host_name_search_domains_and_hosts_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostname: str
) -> None:
    (tmp_path / "resolv.conf").write_text("# search evil.example\nnameserver 10.0.0.1\nsearch lan Fritz.Box.\n")
    (tmp_path / "hosts").write_text(
        "127.0.0.1 localhost\n0.0.0.0 ads.example # pi-1\n\n127.0.1.1\tpi-1.Plant.example pi-1 camera.example\n::1\n"
    )
    monkeypatch.setattr(socket, "gethostname", lambda: hostname)
    assert own_names(etc=tmp_path) == {
        *("localhost", "pi-1", "pi-1.local", "pi-1.lan", "pi-1.fritz.box", "pi-1.plant.example", "camera.example"),
    }


def test_own_names_need_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts").write_bytes(b"\xff\xfe" * 100_000)
    monkeypatch.setattr(socket, "gethostname", lambda: "pi-1")
    assert own_names(etc=tmp_path) == {"localhost", "pi-1", "pi-1.local"}
