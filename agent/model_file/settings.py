"""Settings: what the agent must know to prepare a model's input and to read its output.

They come from three places, each overriding the one before: the metadata in the model file, the sidecar files
next to it, the configuration.
"""

from __future__ import annotations

import dataclasses
import reprlib
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import yaml

from agent.errors import ModelError
from agent.host.plain_file import read_plain_file, status_below
from agent.image import Color  # noqa: TC001  (pydantic reads the annotations)
from agent.model_file.labels import parse_labels
from agent.text import is_unicode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Resize = Literal["stretch", "crop", "pad"]
Resample = Literal["antialias", "bilinear", "nearest", "bicubic", "area"]
Score = Literal["probability", "percent", "logits"]

LABELS_TXT = "labels.txt"  # what Teachable Machine and Coral call the label file next to a model

_MAX_LABELS_BYTES, _MAX_SETTINGS_BYTES = 1 << 20, 1 << 16
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0
_LARGEST = 3.4e38  # of float32, the type in which pixels are normalized

_CHOICES = {
    "color": ("rgb", "bgr", "gray"),
    "resize": ("stretch", "crop", "pad"),
    "resample": ("antialias", "bilinear", "nearest", "bicubic", "area"),
    "score": ("probability", "percent", "logits"),
}


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """None means that this place does not set the value.

    `mean` and `std` have one value, or one per channel: a float input gets (pixel - mean) / std, with pixels from
    0 to 255. `color` is the channel order that the model expects, `resize` how an image of another shape is fitted,
    `resample` how its pixels are computed, `score` whether the outputs are already probabilities, or percent, or
    logits. `output` names the output with the scores if there are several. `unknown_below` is the score below which
    an image is of none of the labels.
    `temperature` divides the logits, so that the scores mean what they say (agent/runtimes/temperature.py).
    """

    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    color: Color | None = None
    resize: Resize | None = None
    resample: Resample | None = None
    score: Score | None = None
    output: str | None = None
    unknown_below: float | None = None
    temperature: float | None = None

    def overridden_by(self, other: ModelSettings) -> ModelSettings:
        values = {
            field.name: value
            for field in dataclasses.fields(other)
            if (value := getattr(other, field.name)) is not None
        }
        return dataclasses.replace(self, **values)

    def to_json(self) -> dict[str, Any]:
        """In the form that check_settings() reads."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) is not None
        }


def final_settings(model: Path, *, own: ModelSettings, given: ModelSettings) -> ModelSettings:
    """The settings in the model file (`own`), overridden by its sidecars, overridden by `given`. Raises ModelError."""
    return own.overridden_by(read_sidecars(model)).overridden_by(given)


def sidecar_paths(model: Path) -> tuple[Path, Path]:
    """The label file and the settings file next to `model`; neither need exist."""
    return model.with_suffix(".txt"), model.with_suffix(".yaml")


def read_sidecars(model: Path, *, root: Path | None = None) -> ModelSettings:
    """Raises ModelError if a sidecar exists but cannot be used. A link counts only if it leads to a file in `root`."""
    labels_path, settings_path = sidecar_paths(model)
    settings = read_label_file(labels_path, root=root)
    try:
        if _is_plain(settings_path, root):
            text = read_plain_file(settings_path, max_bytes=_MAX_SETTINGS_BYTES, root=root).decode("utf-8-sig")
            settings = settings.overridden_by(parse_settings(text, where=settings_path.name))
    except UnicodeDecodeError:
        raise ModelError(f"{settings_path.name} is not UTF-8 text. Save it as UTF-8.") from None
    except OSError as error:
        raise ModelError(
            f"The sidecar {error.filename} cannot be read: {error.strerror}. Make it readable for the agent's user."
        ) from None
    return settings


def read_label_file(path: Path, *, root: Path | None = None) -> ModelSettings:
    """Without values if the file does not exist. Raises ModelError as read_sidecars() does."""
    if not _is_plain(path, root):
        return ModelSettings()
    try:
        content = read_plain_file(path, max_bytes=_MAX_LABELS_BYTES, root=root)
    except OSError as error:
        raise ModelError(f"The sidecar {error.filename} cannot be read: {error.strerror}.") from None
    return ModelSettings(labels=parse_labels(content, where=path.name))


def _is_plain(path: Path, root: Path | None) -> bool:
    status = status_below(path, root)
    return status is not None and stat.S_ISREG(status.st_mode)


def parse_settings(text: str, *, where: str) -> ModelSettings:
    """Reads the YAML form of a sidecar or of `models.settings` in the configuration."""
    try:
        content = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError for 2001-13-45, RecursionError for [[[[
        raise ModelError(f"{where} is not valid YAML: {' '.join(str(error).split())}.") from None
    return check_settings(content, where=where)


def check_settings(content: Any, *, where: str) -> ModelSettings:
    """Raises ModelError for an unknown key or an invalid value."""
    if not isinstance(content, dict):
        raise ModelError(f"{where} must contain lines like `mean: 127.5`, not a {type(content).__name__}.")
    known = [field.name for field in dataclasses.fields(ModelSettings)]
    try:
        unknown = sorted(str(key) for key in content if key not in known)
        if unknown:
            raise ModelError(f"{where} has the unknown key {unknown[0]!r}. Supported: {', '.join(known)}.")
        return ModelSettings(**{key: _checked(key, value) for key, value in content.items() if value is not None})
    except ValueError as error:
        raise ModelError(f"{where}: {error}.") from None


def _checked(key: str, value: Any) -> Any:
    if key == "labels":
        return _checked_labels(value)
    if key in ("mean", "std"):
        return checked_numbers(key, value if isinstance(value, list) else [value])
    if key == "output":
        if not isinstance(value, str):
            raise ValueError(f"output must be the name of an output as text, not {reprlib.repr(value)}")
        return value
    if key == "unknown_below":
        return _checked_number(key, value, 0, 1)
    if key == "temperature":
        return _checked_number(key, value, LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE)
    if value not in _CHOICES[key]:
        raise ValueError(f"{key} must be one of {', '.join(_CHOICES[key])}, not {reprlib.repr(value)}")
    return value


def _checked_number(key: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{key} must be a number from {low:g} to {high:g}, not {reprlib.repr(value)}")
    return float(value)


def _checked_labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("labels must be a list of names")  # noqa: TRY004  (check_settings() reports it)
    if any(isinstance(label, bool) or not isinstance(label, str | int | float) for label in value):
        raise ValueError("labels must be text; put words like yes, no, on, off and null in quotes")
    labels = tuple(map(str, value))
    if not all(map(is_unicode, labels)):
        raise ValueError(
            "labels must be valid Unicode; write the characters themselves instead of escapes like \\uD800"
        )
    return labels


def checked_numbers(key: str, values: Sequence[Any]) -> tuple[float, ...]:
    """Accepts one or three finite numbers; raises ValueError for others."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= _LARGEST]
    if len(numbers) != len(values) or len(numbers) not in (1, 3):
        raise ValueError(f"{key} must be one number, or three (one per channel)")
    if key == "std" and not all(numbers):
        raise ValueError("std must not be 0, because pixels are divided by it")
    return tuple(float(number) for number in numbers)
