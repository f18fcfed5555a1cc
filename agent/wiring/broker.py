"""Broker endpoint: the MQTT broker from the configuration, and the credentials and last will of this device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import ConfigError
from agent.host.access import explain
from agent.mqtt.link.endpoint import Endpoint
from agent.mqtt.session import presence
from agent.security.tls import Tls

if TYPE_CHECKING:
    from agent.config.sections import Config


def broker_endpoint(config: Config) -> Endpoint:
    """Raises ConfigError if the password cannot be read; the endpoint's check() finds the other faults."""
    mqtt, device = config.mqtt, config.device
    return Endpoint(
        host=mqtt.host,
        port=mqtt.port,
        username=mqtt.username,
        password=_password(mqtt.password_file),
        client_id=mqtt.client_id or f"edge-agent-{device.id}",
        will=presence(f"{mqtt.base_topic}/{device.id}", "offline"),
        version=311 if mqtt.embedded_broker else mqtt.protocol,  # amqtt never answers MQTT 5
        tls=_tls(config),
        websocket_path=mqtt.websocket_path,
        max_packet_bytes=2 * config.http.max_upload_bytes,
    )


def _tls(config: Config) -> Tls | None:
    mqtt = config.mqtt
    if not mqtt.tls:
        return None
    return Tls(mqtt.ca_file, mqtt.cert_file, mqtt.key_file or _credential("mqtt_key"), section="mqtt")


def _password(file: Path | None) -> str | None:
    """From mqtt.password_file, else from systemd's LoadCredential=mqtt_password:..., else None."""
    file = file or _credential("mqtt_password")
    return None if file is None else _secret(file)


def _credential(name: str) -> Path | None:
    """The file of a systemd credential. An empty one counts as missing: the unit's default is empty."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    file = Path(folder, name)
    try:
        return file if file.read_bytes().strip() else None
    except FileNotFoundError:
        return None
    except OSError:
        return file  # the code that reads it reports why it cannot


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = explain(error, path)
        raise ConfigError(f"mqtt.password_file {path} cannot be read: {why} Correct it or its permissions.") from None
