"""Load: the configuration from one YAML file and the environment, checked in full; ConfigError in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsError

from agent.config.faults import line_of, parse, sentence, unknown_key_sentence, variable_sentence
from agent.config.sections import ENV_PREFIX, Config, ModelOverrides
from agent.errors import ConfigError, ModelError
from agent.model_file.settings import ModelSettings, parse_labels
from agent.sources.source import is_file_source


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
        raise ConfigError(sentence(error, root=Config, where=where, node=node, prefix=ENV_PREFIX)) from None
    except SettingsError as error:
        raise ConfigError(variable_sentence(error, ENV_PREFIX)) from None
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
