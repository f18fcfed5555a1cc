"""Configuration: one YAML file, checked in full before anything starts; environment variables beat it."""

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
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from agent.config.faults import line_of, parse, sentence, unknown_key_sentence, variable_sentence
from agent.errors import ConfigError, ModelError
from agent.image import MAX_PIXELS
from agent.model_file.settings import ModelSettings, checked_numbers, parse_labels
from agent.sources.source import is_file_source

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource

_PREFIX = "EDGE_AGENT_"
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


def _source(source: str) -> str:
    if not source.strip():
        raise ValueError("must be a camera's number, a device, a URL, a file or a folder")
    return source


def _channels(key: str) -> AfterValidator:
    def check(value: float | list[float]) -> float | list[float]:
        checked_numbers(key, value if isinstance(value, list) else [value])
        return value

    return AfterValidator(check)


Name = Annotated[str, AfterValidator(_topic_level)]
Mean = Annotated[float | list[float], _channels("mean")]
Std = Annotated[float | list[float], _channels("std")]
Source = Annotated[
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


class Device(_Section):
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


class Models(_Section):
    folder: Path = Path("/var/lib/edge-agent/models")
    keep_versions: int = Field(default=3, ge=2)
    retire_after_s: float = Field(default=10, ge=0)
    signatures: Annotated[Literal["off", "if_present", "required"], BeforeValidator(_off_as_text)] = "off"
    trusted_keys: Path | None = None
    max_mb: int = Field(default=256, ge=1)
    swap: Literal["availability", "resource"] = "availability"
    canary: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    settings: dict[str, ModelOverrides] = {}


class Engine(_Section):
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    max_waiting: int = Field(default=16, ge=0)

    def sizes(self) -> tuple[int, int]:
        """Worker threads, and threads of each one's interpreter, for the cores that this process may use.

        Two workers with half of the cores each: two 1-thread interpreters do 879 inferences a second on two
        cores where one 2-thread interpreter does 628, and each further worker costs an interpreter's memory.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = self.workers if self.workers != "auto" else min(2, cores)
        return workers, self.threads if self.threads != "auto" else max(1, cores // workers)


class Camera(_Section):
    source: Source
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


class Outbox(_Section):
    max_bytes: int = Field(default=64 << 20, ge=1 << 20)
    max_age_s: float = Field(default=7 * 24 * 3600, gt=0)


class Mqtt(_Section):
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
    outbox: Outbox = Outbox()
    discovery: bool = True
    shared_classify: Annotated[str, AfterValidator(_shared_subscription)] | None = None
    embedded_broker: bool = False


class Http(_Section):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8501
    max_upload_bytes: int = Field(default=8 << 20, ge=1)
    max_pixels: int = Field(default=1 << 24, ge=1, le=MAX_PIXELS)

    def own_url(self) -> str:
        """Where a program on this machine finds it."""
        host = _ANY_ADDRESS.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


class Logging(_Section):
    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(BaseSettings):
    """Every section has working defaults; docs are the comments of configs/agent.yaml."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=_PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )

    device: Device = Field(default_factory=Device)
    models: Models = Models()
    engine: Engine = Engine()
    cameras: dict[Name, Camera] = {}
    mqtt: Mqtt = Mqtt()
    http: Http = Http()
    logging: Logging = Logging()

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


def load_config(path: Path | None) -> Config:
    """Reads `path`, or only the environment and the defaults where it is None; ConfigError in one sentence.

    Relative paths in the file are relative to its folder.
    """
    where = str(path) if path else "the environment"
    document, node = parse("" if path is None else _read(path), where)
    # Not left to pydantic: BaseSettings takes keys such as `_env_file` for arguments of its own.
    for key in document.keys() - Config.model_fields.keys():
        place = f"{where}, line {line_of([key], node)}"
        raise ConfigError(unknown_key_sentence([key], place, list(Config.model_fields)))
    try:
        config = Config(**document)
    except ValidationError as error:
        raise ConfigError(sentence(error, root=Config, where=where, node=node, prefix=_PREFIX)) from None
    except SettingsError as error:
        raise ConfigError(variable_sentence(error, _PREFIX)) from None
    return _anchored(config, (path.parent if path else Path()).absolute())


def model_settings(config: Config) -> dict[str, ModelSettings]:
    """The `models.settings` of each model; reads the label files that they name; raises ConfigError."""
    return {name: _overrides(name, said) for name, said in config.models.settings.items()}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {path}. Give the right one with --config.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"The configuration file {path} cannot be read: {reason}.") from None


def _anchored(config: Config, base: Path) -> Config:
    def anchor(key: str, path: Path) -> Path:
        try:
            return Path(os.path.normpath(base / path.expanduser()))
        except RuntimeError:
            raise ConfigError(f"{key}: no home folder is known for {path}; write the path in full.") from None

    settings = {
        name: said.model_copy(update={"labels": anchor(f"models.settings.{name}.labels", said.labels)})
        if isinstance(said.labels, Path)
        else said
        for name, said in config.models.settings.items()
    }
    folder = anchor("models.folder", config.models.folder)
    keys = config.models.trusted_keys and anchor("models.trusted_keys", config.models.trusted_keys)
    models = config.models.model_copy(update={"folder": folder, "settings": settings, "trusted_keys": keys})
    state_folder = anchor("device.state_folder", config.device.state_folder)
    device = config.device.model_copy(update={"state_folder": state_folder})
    files = {key: getattr(config.mqtt, key) for key in ("password_file", "ca_file", "cert_file", "key_file")}
    mqtt = config.mqtt.model_copy(update={key: path and anchor(f"mqtt.{key}", path) for key, path in files.items()})
    cameras = {
        name: camera.model_copy(update={"source": str(anchor(f"cameras.{name}.source", Path(camera.source)))})
        if is_file_source(camera.source)
        else camera
        for name, camera in config.cameras.items()
    }
    return config.model_copy(update={"device": device, "models": models, "mqtt": mqtt, "cameras": cameras})


def _overrides(name: str, said: ModelOverrides) -> ModelSettings:
    labels = said.labels
    names: tuple[str, ...] | None = None
    if isinstance(labels, Path):
        try:
            names = parse_labels(labels.read_bytes(), where=str(labels))
        except (OSError, ModelError) as error:
            raise ConfigError(f"models.settings.{name}.labels: {error}") from None
    elif labels is not None:
        names = tuple(labels)
    return ModelSettings(names, _numbers(said.mean), _numbers(said.std), said.color, said.resize, said.score)


def _numbers(value: float | list[float] | None) -> tuple[float, ...] | None:
    return None if value is None else tuple(value) if isinstance(value, list) else (value,)
