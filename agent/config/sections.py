"""Sections: every key of the configuration, its type and its default; environment variables beat the file."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.image import MAX_PIXELS
from agent.model_file.settings import checked_numbers
from agent.sources.source import is_file_source

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource

ENV_PREFIX = "EDGE_AGENT_"
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (to listen there; to ask, it is no address)


def _topic_level(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ValueError("may only have letters, digits, '_', '-' and '.', as it becomes part of an MQTT topic")
    return name


def _region(region: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = region
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError("must be [left, top, right, bottom] as fractions: 0 <= left < right <= 1, likewise down")
    return region


def _base_topic(topic: str) -> str:
    if not re.fullmatch(r"[^+#\x00/]+(/[^+#\x00/]+)*", topic):
        raise ValueError("must be names with '/' between them, without '+' and '#'")
    return topic


def _host(host: str) -> str:
    if not host or "/" in host or re.fullmatch(r"[^:]*:\d+", host):
        raise ValueError("must be a host's name or address only; the port goes into mqtt.port")
    return host


def _websocket_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be a path such as /mqtt")
    return path


def _shared_subscription(topic: str) -> str:
    if not re.fullmatch(r"\$share/[^+#/\x00]+/[^+#\x00]+", topic):
        raise ValueError("must be $share/<group>/<topic>, such as $share/workers/edge-agent/classify")
    return topic


def _number_as_text(source: Any) -> Any:
    return str(source) if type(source) is int and source >= 0 else source


def _off_as_text(said: Any) -> Any:
    """YAML 1.1 takes a bare `off` for a truth value."""
    return "off" if said is False else said


class FileSource(str):
    """The source of a camera that is a file or a folder; like every Path, relative to the configuration's folder."""

    __slots__ = ()


def _source(source: str) -> str:
    if not source.strip():
        raise ValueError("must be a camera's number, a device, a URL, a file or a folder")
    return FileSource(source) if is_file_source(source) else source


def _channels(key: str) -> AfterValidator:
    def check(value: float | list[float]) -> float | list[float]:
        checked_numbers(key, value if isinstance(value, list) else [value])
        return value

    return AfterValidator(check)


Name = Annotated[str, AfterValidator(_topic_level)]
Mean = Annotated[float | list[float], _channels("mean")]
Std = Annotated[float | list[float], _channels("std")]
CameraSource = Annotated[
    str, BeforeValidator(_number_as_text), AfterValidator(_source), WithJsonSchema({"type": ["string", "integer"]})
]
Port = Annotated[int, Field(ge=1, le=65535)]


def _without_nulls(said: Any, section: type[BaseModel]) -> Any:
    if not isinstance(said, dict):
        return said
    return {key: value for key, value in said.items() if value is not None or key not in section.model_fields}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_the_default(cls, said: Any) -> Any:
        return _without_nulls({} if said is None else said, cls)


def _default_state_folder() -> Path:
    """What systemd's StateDirectory= made, else the user's (freedesktop.org's base directories)."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state", "edge-agent")


class DeviceSection(_Section):
    id: Name = Field(default_factory=lambda: re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()) or "device")
    state_folder: Path = Field(default_factory=_default_state_folder)


class ModelOverrides(_Section):
    """What `<model>.yaml` may say, for one model; `labels` is a list or the path of a label file."""

    labels: list[str] | Path | None = None
    mean: Mean | None = None
    std: Std | None = None
    color: Literal["rgb", "bgr", "gray"] | None = None
    resize: Literal["stretch", "crop", "pad"] | None = None
    score: Literal["probability", "logits"] | None = None


class ModelsSection(_Section):
    folder: Path = Path("/var/lib/edge-agent/models")
    keep_versions: int = Field(default=3, ge=2)
    retire_after_s: float = Field(default=10, ge=0)
    signatures: Annotated[Literal["off", "if_present", "required"], BeforeValidator(_off_as_text)] = "off"
    trusted_keys: Path | None = None
    max_mb: int = Field(default=256, ge=1)
    swap: Literal["availability", "resource"] = "availability"
    canary: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    settings: dict[str, ModelOverrides] = {}


class EngineSection(_Section):
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    max_waiting: int = Field(default=16, ge=0)

    def sizes(self, *, cores: int | None = None) -> tuple[int, int]:
        """Worker threads and threads of each worker's interpreter, for `cores` or those that this process may use.

        Two workers with half of the cores each: two 1-thread interpreters do 879 inferences a second on two
        cores where one 2-thread interpreter does 628, and each further worker costs an interpreter's memory.
        """
        cores = cores or _usable_cores()
        workers = self.workers if self.workers != "auto" else min(2, cores)
        return workers, self.threads if self.threads != "auto" else max(1, cores // workers)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class CameraSection(_Section):
    source: CameraSource
    model: str | None = None
    max_fps: float = Field(default=5, gt=0)
    region: Annotated[tuple[float, float, float, float], AfterValidator(_region)] = (0.0, 0.0, 1.0, 1.0)
    rotate: Literal[0, 90, 180, 270] = 0
    max_results: int = Field(default=3, ge=1)
    score_threshold: float = Field(default=0.5, ge=0, le=1)
    stable_frames: int = Field(default=3, ge=1)
    loop: bool = False
    snapshots: bool = False
    enabled: bool = True


class OutboxSection(_Section):
    max_bytes: int = Field(default=64 << 20, ge=1 << 20)
    max_age_s: float = Field(default=7 * 24 * 3600, gt=0)


class MqttSection(_Section):
    enabled: bool = True
    host: Annotated[str, AfterValidator(_host)] = "localhost"
    port: Port = 1883
    username: str | None = None
    password_file: Path | None = None
    client_id: str | None = None
    base_topic: Annotated[str, AfterValidator(_base_topic)] = "edge-agent"
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    websocket_path: Annotated[str, AfterValidator(_websocket_path)] | None = None
    protocol: Literal[5, 311] = 5
    results: Annotated[Literal["all", "changes", "off"], BeforeValidator(_off_as_text)] = "all"
    durability: Literal["spill", "group", "none"] = "spill"
    outbox: OutboxSection = OutboxSection()
    discovery: bool = True
    shared_classify: Annotated[str, AfterValidator(_shared_subscription)] | None = None
    embedded_broker: bool = False


class HttpSection(_Section):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8501
    max_upload_bytes: int = Field(default=8 << 20, ge=1)
    max_pixels: int = Field(default=1 << 24, ge=1, le=MAX_PIXELS)

    def own_url(self) -> str:
        """Where a program on this machine finds it."""
        host = _ANY_ADDRESS.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


class LoggingSection(_Section):
    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(BaseSettings):
    """Every section has working defaults; docs are the comments of configs/agent.yaml."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )

    device: DeviceSection = Field(default_factory=DeviceSection)
    models: ModelsSection = ModelsSection()
    engine: EngineSection = EngineSection()
    cameras: dict[Name, CameraSection] = {}
    mqtt: MqttSection = MqttSection()
    http: HttpSection = HttpSection()
    logging: LoggingSection = LoggingSection()

    @model_validator(mode="before")
    @classmethod
    def _an_empty_section_means_its_default(cls, said: Any) -> Any:
        return _without_nulls(said, cls)

    @model_validator(mode="after")
    def _signatures_need_keys(self) -> Config:
        if self.models.signatures != "off" and self.models.trusted_keys is None:
            raise ValueError("models.trusted_keys: signatures need a folder with .pub files")
        return self

    @model_validator(mode="after")
    def _certificates_need_tls(self) -> Config:
        said = [key for key in ("ca_file", "cert_file", "key_file") if getattr(self.mqtt, key)]
        if said and not self.mqtt.tls:
            raise ValueError(f"mqtt.{said[0]} is for TLS: set mqtt.tls to true, or leave it out")
        if (self.mqtt.cert_file is None) != (self.mqtt.key_file is None):
            raise ValueError("mqtt.cert_file and mqtt.key_file go together: give both or none")
        return self

    @model_validator(mode="after")
    def _upload_is_no_camera(self) -> Config:
        if "upload" in self.cameras:
            raise ValueError("cameras.upload: this name is taken by uploads; choose another")
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
