from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from agent.host import systemd

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_notify_sends_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        systemd.notify("READY=1", "STATUS=fine\nMAINPID=1")
        assert receiver.recv(100) == b"READY=1\nSTATUS=fine MAINPID=1"


def test_notify_accepts_an_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"edge-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        systemd.notify("STOPPING=1")
        assert receiver.recv(100) == b"STOPPING=1"


def test_notify_does_nothing_without_a_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "no listener"))
    systemd.notify("READY=1")


def test_watchdog_period_is_half_of_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_period_s() == 5
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_period_s() is None
    monkeypatch.delenv("WATCHDOG_USEC")
    assert systemd.watchdog_period_s() is None
