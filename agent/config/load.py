"""Loads and checks the configuration from one YAML file and the environment; raises ConfigError with one sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from agent.config.camera_source import FileSource
from agent.config.faults import (
    line_of,
    parse,
    place_of,
    sentence,
    unknown_key_sentence,
    variable_sentence,
)
from agent.config.profiles import check_profiles
from agent.config.sections import ENV_PREFIX, Config
from agent.errors import ConfigError, ModelError
from agent.host.access import explain
from agent.model_file.labels import parse_labels
from agent.model_file.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.models import ModelOverrides


def load_config(path: Path | None) -> Config:
    """Reads `path`, or only the environment and the defaults if it is None; raises ConfigError with one sentence.

    Relative paths in the file are relative to its folder.
    """
    where = str(path) if path else "the environment"
    document, node = parse("" if path is None else _read(path), where)
    # Not left to pydantic: BaseSettings would use keys such as `_env_file` as its own arguments.
    for key in document.keys() - Config.model_fields.keys():
        place = f"{where}, line {line_of([key], node)}"
        raise ConfigError(unknown_key_sentence([key], place, list(Config.model_fields)))
    try:
        config = Config(**document)
    except ValidationError as error:
        raise ConfigError(sentence(error, root=Config, where=where, node=node, prefix=ENV_PREFIX)) from None
    except SettingsError as error:
        raise ConfigError(variable_sentence(error, ENV_PREFIX)) from None
    check_profiles(config.profiles, config.cameras, place_of=lambda keys: place_of(keys, where, node, ENV_PREFIX))
    anchored: Config = _anchored(config, (path.parent if path else Path()).absolute())
    return anchored


def model_settings(config: Config) -> dict[str, ModelSettings]:
    """Returns the `models.settings` of each model; reads the label files that they name; raises ConfigError."""
    return {name: _overrides(name, overrides) for name, overrides in config.models.settings.items()}


def named_files(section: BaseModel) -> Iterator[tuple[str, Path]]:
    """Each key of the configuration, or of one section, whose value is a file or a folder, and that path."""
    return _named_files(section, "")


def _named_files(value: Any, key: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _named_files(entry, f"{key}.{name}" if key else name)
    elif isinstance(value, Path | FileSource):
        yield key, value if isinstance(value, Path) else value.path


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"The configuration file {path} does not exist. Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {explain(error, path)}") from None


def _anchored(value: Any, folder: Path, key: str = "") -> Any:
    """Returns `value` with each relative path in it resolved against `folder`; errors name its `key`."""
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        anchored = _anchored(fields, folder, key)
        # A view must still know which keys it was given: the others are its camera's.
        return value.model_copy(update={name: each for name, each in anchored.items() if each != fields[name]})
    if isinstance(value, dict):
        return {name: _anchored(entry, folder, f"{key}.{name}" if key else name) for name, entry in value.items()}
    if isinstance(value, Path | FileSource):
        path = value if isinstance(value, Path) else value.path
        try:
            anchored = os.path.normpath(folder / path.expanduser())
        except RuntimeError:
            raise ConfigError(f"{key}: the home folder in {value} is unknown; write the full path.") from None
        return Path(anchored) if isinstance(value, Path) else value.with_path(anchored)
    return value


def _overrides(name: str, overrides: ModelOverrides) -> ModelSettings:
    labels = overrides.labels
    names: tuple[str, ...] | None = None
    if isinstance(labels, Path):
        try:
            names = parse_labels(labels.read_bytes(), where=str(labels))
        except (OSError, ModelError) as error:
            raise ConfigError(f"models.settings.{name}.labels: {error}") from None
    elif labels is not None:
        names = tuple(labels)
    return ModelSettings(
        labels=names,
        mean=_numbers(overrides.mean),
        std=_numbers(overrides.std),
        color=overrides.color,
        resize=overrides.resize,
        resample=overrides.resample,
        score=overrides.score,
        output=overrides.output,
        unknown_below=overrides.unknown_below,
        temperature=overrides.temperature,
    )


def _numbers(value: float | list[float] | None) -> tuple[float, ...] | None:
    return None if value is None else tuple(value) if isinstance(value, list) else (value,)
