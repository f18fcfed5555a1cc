"""Sections: every key of the configuration, except those of a camera, with its type, default and description.

Environment variables override the file. The descriptions make docs/reference/configuration.md, the comments of
configs/agent.yaml and the JSON Schema: run `make reference` after a change.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.config.camera import CameraSection
from agent.config.camera_source import InboxSource
from agent.config.events import EventsSection
from agent.config.profiles import ProfileName, ProfileSection
from agent.config.section import Name, Section, allow_nulls, without_nulls
from agent.image import MAX_PIXELS
from agent.model_file.settings import checked_numbers

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource

ENV_PREFIX = "EDGE_AGENT_"
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (valid to listen on, not to connect to)

_PORTS_OF_SCHEMES = {"http": ":80", "https": ":443"}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


def _off_as_text(value: Any) -> Any:
    """YAML 1.1 reads a bare `off` as false."""
    return "off" if value is False else value


def _channels(key: str) -> AfterValidator:
    def check(value: float | list[float]) -> float | list[float]:
        checked_numbers(key, value if isinstance(value, list) else [value])
        return value

    return AfterValidator(check)


def _host_name(name: str) -> str:
    if name != "*" and not re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?", name, re.ASCII):
        raise ValueError("must be a host name such as agent.example.com, without scheme and port")
    return name.lower().rstrip(".")


def _origin(origin: str) -> str:
    match = re.fullmatch(r"(https?)://(\[[0-9a-f:.]+\]|[\w.-]+)(:\d+)?/?", origin.lower(), re.ASCII)
    if origin != "*" and match is None:
        raise ValueError("must be an origin such as https://shop.example:8443, without a path")
    if match is None:
        return origin
    scheme, host, port = match.groups()
    return f"{scheme}://{host}{'' if port in (None, _PORTS_OF_SCHEMES[scheme]) else port}"  # as browsers send it


def _network(network: str) -> str:
    return str(ipaddress.ip_network(network))


def _base_path(path: str) -> str:
    if not re.fullmatch(r"(/[\w~-][\w.~-]*)+/?", path, re.ASCII):
        raise ValueError("must be a path such as /edge, of letters, digits, '-', '_', '.' and '~'")
    return path.rstrip("/")


Mean = Annotated[float | list[float], _channels("mean")]
Std = Annotated[float | list[float], _channels("std")]
HostName = Annotated[str, AfterValidator(_host_name)]
Origin = Annotated[str, AfterValidator(_origin)]
Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]


def _default_state_folder() -> Path:
    """The folder of systemd's StateDirectory=, or the user's (XDG Base Directory Specification)."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state", "edge-agent")


class DeviceSection(Section):
    id: Name = Field(
        default_factory=lambda: re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()) or "device",
        description="Name of this device in MQTT topics and Results. It must be unique among your devices. "
        "Default: the host name.",
    )
    state_folder: Path = Field(
        default_factory=_default_state_folder,
        description="Folder for data that survives a restart: copies of the models, their version history and "
        "unsent results. Default: `$STATE_DIRECTORY` (set by systemd), else `$XDG_STATE_HOME/edge-agent`, else "
        "`~/.local/state/edge-agent`.",
    )


class ModelOverrides(Section):
    """Settings for one model, as in its `<model>.yaml`."""

    labels: list[str] | Path | None = Field(
        default=None,
        description="Labels in the order of the outputs, or a file with one label per line.",
        examples=["birds.txt"],
    )
    mean: Mean | None = Field(
        default=None,
        description="Mean of the normalization `(pixel - mean) / std`: one number, or three (one per channel).",
        examples=[127.5],
    )
    std: Std | None = Field(
        default=None, description="Standard deviation of the normalization, in the same form.", examples=[127.5]
    )
    color: Literal["rgb", "bgr", "gray"] | None = Field(
        default=None, description="Color order of the input: rgb, bgr or gray.", examples=["rgb"]
    )
    resize: Literal["stretch", "crop", "pad"] | None = Field(
        default=None,
        description="How to fit images with a different aspect ratio: stretch, crop or pad.",
        examples=["stretch"],
    )
    score: Literal["probability", "percent", "logits"] | None = Field(
        default=None,
        description="What the model returns: probability (0 to 1), percent or logits. Default: the agent finds out.",
        examples=["probability"],
    )
    output: str | None = Field(
        default=None,
        description="Name of the output with the scores, if the model has several outputs. Default: the one with as "
        "many values as there are labels.",
        examples=["probabilities"],
    )
    unknown_below: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Score below which an image is of none of the labels, for cameras with `score_threshold: auto`.",
        examples=[0.62],
    )


class ModelsSection(Section):
    folder: Path = Field(
        default=Path("/var/lib/edge-agent/models"),
        description="Drop folder: the agent serves the `.tflite` files that you copy here.",
    )
    keep_versions: int = Field(
        default=3,
        ge=2,
        description="How many good versions of each model to keep for rollback. The newest proven version is always "
        "kept.",
    )
    retire_after_s: float = Field(
        default=10,
        ge=0,
        description="How long a model stays served after its file is removed, in seconds. `rm` followed by `cp` then "
        "leaves no gap.",
    )
    signatures: Annotated[Literal["off", "if_present", "required"], BeforeValidator(_off_as_text)] = Field(
        default="off",
        description="Check of minisign signatures (`<file>.minisig`). `if_present`: a signature must be valid if there "
        "is one. `required`: unsigned files are rejected. Both need `trusted_keys`.",
    )
    trusted_keys: Path | None = Field(
        default=None,
        description="Folder with the public keys (`.pub` files) that may sign models. You can add and remove keys "
        "while the agent runs.",
    )
    max_mb: int = Field(
        default=256,
        ge=1,
        description="Maximum size of a model file in MB. A model is read into memory.",
    )
    swap: Literal["availability", "resource"] = Field(
        default="availability",
        description="How to replace a version. `availability`: load the new version next to the old one. `resource`: "
        "if memory is too short for both, unload the old one first; uploads get status 503 meanwhile.",
    )
    canary: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        default={},
        description="Per model, the share of uploads that go to a new version (the canary) until it is promoted or "
        "rolled back (`edge-agent models promote`, `rollback`). A new version of a model without an entry takes over "
        "at once.",
        examples=[{"birds": 0.1}],
    )
    settings: dict[str, ModelOverrides] = Field(
        default={},
        description="Per model, settings that override its metadata and its sidecars `<model>.txt` and "
        "`<model>.yaml`. A float model without metadata needs `mean` and `std`, which cannot be guessed.",
    )


class EngineSection(Section):
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="auto",
        description="Worker threads, each with its own interpreter. `auto`: 2, or 1 on a single core.",
    )
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="auto",
        description="Threads of each interpreter. `auto`: the number of cores divided by the number of workers.",
    )
    max_waiting: int = Field(
        default=16,
        ge=0,
        description="How many uploads may wait while all workers are busy. Further uploads get status 503 with "
        "`Retry-After`.",
    )

    def sizes(self, *, cores: int | None = None) -> tuple[int, int]:
        """Returns the number of workers and of threads per interpreter; `cores` default to the usable ones.

        Two workers share the cores: on two cores, two interpreters with one thread each do 879 inferences per
        second, one with two threads does 628. Each further worker costs the memory of an interpreter.
        """
        cores = cores or _usable_cores()
        workers = self.workers if self.workers != "auto" else min(2, cores)
        return workers, self.threads if self.threads != "auto" else max(1, cores // workers)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    results: Annotated[Literal["all", "changes", "off"], BeforeValidator(_off_as_text)] = Field(
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
        description="Run a broker inside this process, for the demo; needs `pip install 'edge-agent[demo]'`.",
    )


class HttpSection(Section):
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; `0.0.0.0` or `::` means all networks. Unless it is a loopback address, "
        "clients need an access token.",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8501, description="Port to listen on; 0 lets the system choose one."
    )
    tokens_file: Path | None = Field(
        default=None,
        description="File with the access tokens, made by `edge-agent token create` and read again when it changes. "
        "Default: `tokens` in the state folder.",
    )
    anonymous: bool = Field(
        default=False,
        description="Let everyone who reaches the port do everything, without a token. Without it, only clients on "
        "this machine need no token, and only if `host` is a loopback address, no reverse proxy is configured and no "
        "token exists.",
    )
    hosts: list[HostName] = Field(
        default=[],
        description="Further names under which clients may address the agent; `*` means all. IP addresses, names "
        "without a dot and the names of this machine are always accepted. Any other name is refused, because a web "
        "page can let its own name point to the agent.",
    )
    cors: list[Origin] = Field(
        default=[],
        description="Origins whose web pages may use the agent from a browser, such as `https://shop.example`; `*` "
        "means all pages. They need a token like every other client.",
    )
    trusted_proxies: list[Network] = Field(
        default=[],
        description="Addresses and networks of reverse proxies, such as `127.0.0.1` or `10.0.0.0/8`. Only from them "
        "does `X-Forwarded-For` count.",
    )
    base_path: Annotated[str, AfterValidator(_base_path)] | None = Field(
        default=None,
        description="Path below which a reverse proxy serves the agent, such as `/edge`. It works whether or not the "
        "proxy removes it.",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="Certificate of the agent with its chain, in PEM format; `edge-agent certificate` makes one. With "
        "it, the port takes HTTPS only. The agent reads this file, `tls_key` and `client_ca` again when they change.",
    )
    tls_key: Path | None = Field(
        default=None, description="Private key of `tls_cert`, in PEM format and without a passphrase."
    )
    client_ca: Path | None = Field(
        default=None,
        description="Certificates of the authorities that sign clients' certificates. A client with such a "
        "certificate may do everything without a token; all others need a token, also on this machine.",
    )
    max_upload_bytes: int = Field(
        default=8 << 20, ge=1, description="Maximum size of an uploaded image in bytes, over HTTP and MQTT."
    )
    max_pixels: int = Field(
        default=1 << 24,
        ge=1,
        le=MAX_PIXELS,
        description="Maximum size of an uploaded image in pixels, checked before decoding. A PNG of 109 kB can "
        "decode to 5 GB.",
    )
    header_timeout_s: float = Field(
        default=10,
        ge=1,
        le=3600,
        description="How long a client may take to send the headers of a request, in seconds, counted from the start "
        "of the connection or from the last answer.",
    )
    body_timeout_s: float = Field(
        default=30, ge=1, le=3600, description="How long the body of a request may take to arrive, in seconds."
    )
    per_client: int = Field(
        default=4,
        ge=1,
        description="How many uploads each client address may have in progress at any time. One address may have more "
        "as long as it leaves a quarter of all places, and of the memory for bodies, to others.",
    )

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the agent: the clients of a proxy are elsewhere."""
        return not (self.trusted_proxies or self.base_path) and _is_loopback(self.host)

    def own_url(self) -> str:
        """The URL for programs on this machine."""
        host = _ANY_ADDRESS.get(self.host, self.host)
        return f"{self.scheme}://[{host}]:{self.port}" if ":" in host else f"{self.scheme}://{host}:{self.port}"

    @property
    def scheme(self) -> str:
        return "http" if self.tls_cert is None else "https"


class GrpcSection(Section):
    enabled: bool = Field(
        default=False,
        description="Answer the gRPC clients of TensorFlow Serving, Triton and KServe. Tokens and limits are those of "
        "`http`. With pip, it needs `pip install 'edge-agent[grpc]'`.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; `0.0.0.0` or `::` means all networks. Unless it is a loopback address, "
        "clients need an access token.",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8500, description="Port to listen on; 0 lets the system choose one."
    )
    max_message_bytes: int = Field(
        default=8 << 20,
        ge=1 << 10,
        le=1 << 28,
        description="Maximum size of a request in bytes. While a large message is parsed, everything else waits.",
    )

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the port."""
        return _is_loopback(self.host)


class LoggingSection(Section):
    format: Literal["text", "json"] = Field(
        default="text", description="`text` for people, or `json`: one object per line, for programs."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level to log: debug, info, warning or error."
    )


class Config(BaseSettings):
    """The whole configuration; every section has working defaults."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        json_schema_extra=allow_nulls,
    )

    device: DeviceSection = Field(default_factory=DeviceSection, description="The device that the agent runs on.")
    models: ModelsSection = Field(default=ModelsSection(), description="Where models come from and how they serve.")
    engine: EngineSection = Field(default=EngineSection(), description="Threads for inference.")
    cameras: dict[Name, CameraSection] = Field(
        default={}, description="One entry per camera. Its name becomes part of its MQTT topics."
    )
    events: EventsSection = Field(default=EventsSection(), description="What the cameras have shown.")
    profiles: dict[ProfileName, ProfileSection] = Field(
        default={},
        description="Settings of cameras that change by the time of day. Of several, the first one is active.",
    )
    mqtt: MqttSection = Field(default=MqttSection(), description="Connection to the MQTT broker.")
    http: HttpSection = Field(default=HttpSection(), description="The HTTP API.")
    grpc: GrpcSection = Field(default=GrpcSection(), description="The gRPC API.")
    logging: LoggingSection = Field(default=LoggingSection(), description="The log on standard error.")

    @model_validator(mode="before")
    @classmethod
    def _an_empty_section_means_its_default(cls, document: Any) -> Any:
        return without_nulls(document, cls)

    @model_validator(mode="after")
    def _signatures_need_keys(self) -> Config:
        if self.models.signatures != "off" and self.models.trusted_keys is None:
            raise ValueError("models.trusted_keys is missing: models.signatures needs a folder with .pub files")
        return self

    @model_validator(mode="after")
    def _certificates_need_tls(self) -> Config:
        given = [key for key in ("ca_file", "cert_file", "key_file") if getattr(self.mqtt, key)]
        if given and not self.mqtt.tls:
            raise ValueError(f"mqtt.{given[0]} requires TLS: set mqtt.tls to true or remove mqtt.{given[0]}")
        if self.mqtt.key_file and not self.mqtt.cert_file:
            raise ValueError("mqtt.key_file needs its certificate: set mqtt.cert_file or remove mqtt.key_file")
        return self

    @model_validator(mode="after")
    def _certificate_needs_its_key(self) -> Config:
        http = self.http
        if (http.tls_cert is None) != (http.tls_key is None):
            given, missing = ("tls_key", "tls_cert") if http.tls_cert is None else ("tls_cert", "tls_key")
            raise ValueError(f"http.{given} needs http.{missing}: set both or remove http.{given}")
        if http.client_ca is not None and http.tls_cert is None:
            raise ValueError("http.client_ca requires TLS: set http.tls_cert and http.tls_key or remove http.client_ca")
        return self

    @model_validator(mode="after")
    def _upload_is_not_a_camera(self) -> Config:
        if "upload" in self.cameras:
            raise ValueError("cameras.upload: this name is reserved for uploads; choose another")
        return self

    @model_validator(mode="after")
    def _an_inbox_has_one_camera(self) -> Config:
        cameras: dict[Path, str] = {}
        for name, camera in self.cameras.items():
            if isinstance(camera.source, InboxSource):
                other = cameras.setdefault(camera.source.path, name)
                if other != name:
                    raise ValueError(f"cameras.{name}.source: this is the inbox of {other}; give it another folder")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  (pydantic-settings passes it)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (pydantic-settings passes it)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (pydantic-settings passes it)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings
