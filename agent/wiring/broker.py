"""Broker endpoint: the MQTT broker that the configuration names, and what this device says to it of itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import ConfigError
from agent.mqtt.link.endpoint import Endpoint
from agent.mqtt.session import presence
from agent.security.tls import Tls

if TYPE_CHECKING:
    from agent.config.sections import Config


def broker_endpoint(config: Config) -> Endpoint:
    """Raises ConfigError where the password cannot be read; what else may be wrong, its check() tells."""
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
    """Of mqtt.password_file, else of systemd's LoadCredential=mqtt_password:..., else none."""
    file = file or _credential("mqtt_password")
    return None if file is None else _secret(file)


def _credential(name: str) -> Path | None:
    """Where systemd has put it. An empty one is none: the unit has it for the case that nobody gave any."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    file = Path(folder, name)
    try:
        return file if file.read_bytes().strip() else None
    except FileNotFoundError:
        return None
    except OSError:
        return file  # whoever needs it says why it cannot be read


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"mqtt.password_file {path} cannot be read: {reason}.") from None
