"""Sections: the whole configuration. Each of its sections has its keys with types, defaults and descriptions.

Environment variables override the file. The descriptions make docs/reference/configuration.md, the comments of
configs/agent.yaml and the JSON Schema: run `make reference` after a change.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.config.batching import BatchingSection, TensorFlowSection
from agent.config.camera import CameraSection
from agent.config.camera_source import InboxSource
from agent.config.events import EventsSection
from agent.config.http import GrpcSection, HttpSection
from agent.config.models import ModelsSection
from agent.config.mqtt import MqttSection
from agent.config.profiles import ProfileName, ProfileSection
from agent.config.section import Name, Section, allow_nulls, without_nulls
from agent.host import process

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource

ENV_PREFIX = "EDGE_AGENT_"


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


class EngineSection(Section):
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="auto",
        description="Worker threads, each with its own interpreter. `auto`: 2, or 1 on a single core.",
    )
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="auto",
        description="Threads of each interpreter. `auto`: the number of cores divided by the number of workers.",
    )
    accelerator: Literal["auto", "cpu", "gpu", "edgetpu"] = Field(
        default="auto",
        description="What computes `.tflite` models. `auto`: the GPU if it gives the same scores and is at least 10 % "
        "faster than the CPU; the Edge TPU for models that are compiled for it. `gpu`: the GPU if it gives the same "
        "scores. `cpu` and `edgetpu`: no GPU is tried.",
    )
    max_waiting: int = Field(
        default=16,
        ge=0,
        description="How many uploads may wait while all workers are busy. Further uploads get status 503 with "
        "`Retry-After`.",
    )

    batching: BatchingSection = Field(
        default=BatchingSection(), description="Batches of images, for SavedModels that get faster by them."
    )
    tensorflow: TensorFlowSection = Field(
        default=TensorFlowSection(), description="How TensorFlow computes SavedModels. `.tflite` models do not need it."
    )

    def sizes(self, *, cores: int | None = None) -> tuple[int, int]:
        """Returns the number of workers and of threads per interpreter; `cores` default to the usable ones.

        Two workers share the cores: on two cores, two interpreters with one thread each do 879 inferences per
        second, one with two threads does 628. Each further worker costs the memory of an interpreter.
        """
        cores = cores or process.usable_cores()
        workers = self.workers if self.workers != "auto" else min(2, cores)
        return workers, self.threads if self.threads != "auto" else max(1, cores // workers)


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
