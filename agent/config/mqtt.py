"""MQTT: the keys of the connection to the broker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from agent.config.section import Section, off_as_text


def _base_topic(topic: str) -> str:
    if not re.fullmatch(r"[^+#\x00/]+(/[^+#\x00/]+)*", topic):
        raise ValueError("must be names separated by '/', without '+' and '#'")
    return topic


def _host(host: str) -> str:
    if not host or "/" in host or re.fullmatch(r"[^:]*:\d+", host):
        raise ValueError("must be a host name or address only; the port goes in mqtt.port")
    return host


def _websocket_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be a path such as /mqtt")
    return path


def _shared_subscription(topic: str) -> str:
    if not re.fullmatch(r"\$share/[^+#/\x00]+/[^+#\x00]+", topic):
        raise ValueError("must be $share/<group>/<topic>, such as $share/workers/edge-agent/classify")
    return topic


Port = Annotated[int, Field(ge=1, le=65535)]


class OutboxSection(Section):
    max_bytes: int = Field(
        default=64 << 20, ge=1 << 20, description="Maximum size of the waiting Results on the disk, in bytes."
    )
    max_age_s: float = Field(default=7 * 24 * 3600, gt=0, description="Maximum time that a Result waits, in seconds.")


class MqttSection(Section):
    enabled: bool = Field(default=True, description="Whether to use MQTT at all.")
    host: Annotated[str, AfterValidator(_host)] = Field(
        default="localhost", description="Host name or address of the broker."
    )
    port: Port = Field(default=1883, description="Port of the broker, usually 8883 with TLS.")
    username: str | None = Field(default=None, description="User name, if the broker requires one.")
    password_file: Path | None = Field(
        default=None,
        description="File with the password, so that this file contains no secret. Default: systemd's credential "
        "`mqtt_password` (`LoadCredential=mqtt_password:...`).",
    )
    client_id: str | None = Field(
        default=None,
        description="MQTT client id. Default: `edge-agent-<device.id>`. Two clients with the same id disconnect each "
        "other.",
    )
    base_topic: Annotated[str, AfterValidator(_base_topic)] = Field(
        default="edge-agent",
        description="First part of all topics, which start with `<base_topic>/<device.id>/`.",
    )
    tls: bool = Field(default=False, description="Use TLS. The certificate of the broker is always verified.")
    ca_file: Path | None = Field(
        default=None, description="CA certificate that signed the broker's. Default: the CA certificates of the system."
    )
    cert_file: Path | None = Field(default=None, description="Client certificate, if the broker requires one.")
    key_file: Path | None = Field(
        default=None,
        description="Private key of the client certificate. Default: systemd's credential `mqtt_key`, else the key in "
        "`cert_file`.",
    )
    websocket_path: Annotated[str, AfterValidator(_websocket_path)] | None = Field(
        default=None, description="Path for MQTT over WebSockets, such as `/mqtt`. Default: plain MQTT."
    )
    protocol: Literal[5, 311] = Field(
        default=5,
        description="MQTT version to try first: 5, or 311 for MQTT 3.1.1. If the broker refuses it, the agent tries "
        "the other one.",
    )
    results: Annotated[Literal["all", "changes", "off"], BeforeValidator(off_as_text)] = Field(
        default="all",
        description="Which Results to publish. `all`: every Result. `changes`: a camera's Result only if its best "
        "label changed. `off`: only states.",
    )
    durability: Literal["spill", "group", "none"] = Field(
        default="spill",
        description="Where Results wait for the broker's acknowledgment. `spill`: on the disk after 2 s or when the "
        "agent stops; nothing is written while the connection is good. `group`: on the disk within 0.1 s, before they "
        "are sent. `none`: in memory only, at most 4 MB, lost when the process ends.",
    )
    outbox: OutboxSection = Field(
        default=OutboxSection(),
        description="Limits for Results that wait on the disk, in `<state_folder>/outbox`; 32 MB of the disk always "
        "stay free. The agent drops the oldest first and announces the gap on `<base>/gaps`.",
    )
    discovery: bool = Field(default=True, description="Let Home Assistant discover this device over MQTT.")
    shared_classify: Annotated[str, AfterValidator(_shared_subscription)] | None = Field(
        default=None,
        description="Shared subscription `$share/<group>/<topic>`: images published to `<topic>` are distributed among "
        "all agents of the group.",
    )
    embedded_broker: bool = Field(
        default=False,
        description="Run a broker inside this process, for the demo; needs the extra `demo`. It speaks MQTT 3.1.1 "
        "only and loses commands with QoS 0.",
    )
