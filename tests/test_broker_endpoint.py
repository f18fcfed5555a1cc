from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.config.load import load_config
from agent.errors import ConfigError
from agent.wiring.broker import broker_endpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "agent.yaml"


def test_missing_password_file_is_reported(write: Path) -> None:
    write.write_text("mqtt: {password_file: secret}\n")
    with pytest.raises(ConfigError, match=r"mqtt\.password_file .*secret cannot be read"):
        _password(write)


def test_password_keeps_its_spaces_without_its_line_end(write: Path) -> None:
    (write.parent / "secret").write_text(" pass word \n")
    write.write_text("mqtt: {password_file: secret}\n")
    assert _password(write) == " pass word "


def test_password_may_be_a_systemd_credential(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(write.parent))
    write.write_text("mqtt: {username: pi}\n")
    assert _password(write) is None
    (write.parent / "mqtt_password").write_text("\n")  # the unit's default
    assert _password(write) is None
    (write.parent / "mqtt_password").write_text("sesame\n")
    assert _password(write) == "sesame"
    (write.parent / "other").write_text("mine\n", encoding="utf-8-sig")  # as editors on Windows may write it
    write.write_text("mqtt: {password_file: other}\n")
    assert _password(write) == "mine"


def test_client_key_may_be_a_systemd_credential(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(write.parent))
    write.write_text("mqtt: {tls: true, cert_file: client.pem}\n")
    assert _key_file(write) is None
    (write.parent / "mqtt_key").write_text("a key\n")
    assert _key_file(write) == write.parent / "mqtt_key"


def test_client_id_is_derived_from_the_device_unless_it_is_given(write: Path) -> None:
    write.write_text("device: {id: pi-1}\n")
    assert broker_endpoint(load_config(write)).client_id == "edge-agent-pi-1"
    write.write_text("mqtt: {client_id: mine}\n")
    assert broker_endpoint(load_config(write)).client_id == "mine"


def _password(config: Path) -> str | None:
    return broker_endpoint(load_config(config)).password


def _key_file(config: Path) -> Path | None:
    tls = broker_endpoint(load_config(config)).tls
    assert tls is not None
    return tls.key_file
