"""Settings: what must be known to feed a model and to read its answer, and where it was written down.

Three places may say it, the later beating the earlier: the metadata inside the model file, the sidecar files
beside it, the configuration.
"""

from __future__ import annotations

import dataclasses
import re
import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import yaml

from agent.errors import ModelError
from agent.host.plain_file import read_plain_file
from agent.image import Color  # noqa: TC001  (pydantic reads the annotations)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Resize = Literal["stretch", "crop", "pad"]
Score = Literal["probability", "logits"]

_MAX_LABELS_BYTES, _MAX_SETTINGS_BYTES = 1 << 20, 1 << 16
_LARGEST = 3.4e38  # of float32, in which the pixels are normalised

_CHOICES = {
    "color": ("rgb", "bgr", "gray"),
    "resize": ("stretch", "crop", "pad"),
    "score": ("probability", "logits"),
}


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """None means that this place does not say.

    `mean` and `std` have one value or one a channel: a float input takes (pixel - mean) / std, pixels being
    0 to 255. `color` is the order the model wants, `resize` how an image of another shape is fitted, `score`
    whether the outputs are probabilities already.
    """

    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    color: Color | None = None
    resize: Resize | None = None
    score: Score | None = None

    def overridden_by(self, other: ModelSettings) -> ModelSettings:
        said = {
            field.name: value
            for field in dataclasses.fields(other)
            if (value := getattr(other, field.name)) is not None
        }
        return dataclasses.replace(self, **said)

    def to_json(self) -> dict[str, Any]:
        """What check_settings() reads."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) is not None
        }


def final_settings(model: Path, *, own: ModelSettings, given: ModelSettings) -> ModelSettings:
    """What the file at `model` says, its sidecars, what was given: the later beats the earlier. ModelError."""
    return own.overridden_by(read_sidecars(model)).overridden_by(given)


def sidecar_paths(model: Path) -> tuple[Path, Path]:
    """The label file and the settings file that may stand beside `model`."""
    return model.with_suffix(".txt"), model.with_suffix(".yaml")


def read_sidecars(model: Path) -> ModelSettings:
    """Raises ModelError when a sidecar is there and cannot be used. Links count for nothing, as in the drop folder."""
    labels_path, settings_path = sidecar_paths(model)
    settings = ModelSettings()
    try:
        if _is_plain(labels_path):
            content = read_plain_file(labels_path, max_bytes=_MAX_LABELS_BYTES)
            settings = ModelSettings(labels=parse_labels(content, where=labels_path.name))
        if _is_plain(settings_path):
            text = read_plain_file(settings_path, max_bytes=_MAX_SETTINGS_BYTES).decode("utf-8-sig")
            settings = settings.overridden_by(parse_settings(text, where=settings_path.name))
    except UnicodeDecodeError:
        raise ModelError(f"{settings_path.name} is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise ModelError(f"The sidecar {error.filename} cannot be read: {error.strerror}.") from None
    return settings


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def parse_labels(content: bytes, *, where: str) -> tuple[str, ...]:
    """One label a line, or `index label` lines whose indices count up from 0; blank lines at the end go."""
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ModelError(f"{where} is not UTF-8 text: save the labels as UTF-8, one a line.") from None
    while lines and not lines[-1]:
        lines.pop()
    numbered = [re.fullmatch(r"([0-9]+)[\s:,]+(\S.*)", line) for line in lines]
    # As text: int() refuses thousands of digits.
    if numbered and all(match and (match[1].lstrip("0") or "0") == str(i) for i, match in enumerate(numbered)):
        return tuple(match[2] for match in numbered if match)
    return tuple(lines)


def parse_settings(text: str, *, where: str) -> ModelSettings:
    """Reads the YAML form of a sidecar or of `models.settings` in the configuration."""
    try:
        content = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of 2001-13-45, and of [[[[...
        raise ModelError(f"{where} is not valid YAML: {' '.join(str(error).split())}.") from None
    return check_settings(content, where=where)


def check_settings(content: Any, *, where: str) -> ModelSettings:
    """Raises ModelError for an unknown key and for a value that the key cannot have."""
    if not isinstance(content, dict):
        raise ModelError(f"{where} must hold lines like `mean: 127.5`, not a {type(content).__name__}.")
    known = [field.name for field in dataclasses.fields(ModelSettings)]
    try:
        unknown = sorted(str(key) for key in content if key not in known)
        if unknown:
            raise ModelError(f"{where} has the unknown key {unknown[0]!r}; it may have {', '.join(known)}.")
        return ModelSettings(**{key: _checked(key, value) for key, value in content.items() if value is not None})
    except ValueError as error:
        raise ModelError(f"{where}: {error}.") from None


def _checked(key: str, value: Any) -> Any:
    if key == "labels":
        if not isinstance(value, list):
            raise ValueError("labels must be a list of names")
        if any(isinstance(label, bool) or not isinstance(label, str | int | float) for label in value):
            raise ValueError("labels must be text: put words like yes, no, on, off and null into quotes")
        labels = tuple(map(str, value))
        if not all(map(is_unicode, labels)):
            raise ValueError("labels must be valid Unicode: write the characters themselves, no halves like \\uD800")
        return labels
    if key in ("mean", "std"):
        return checked_numbers(key, value if isinstance(value, list) else [value])
    if value not in _CHOICES[key]:
        raise ValueError(f"{key} must be one of {', '.join(_CHOICES[key])}, not {reprlib.repr(value)}")
    return value


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8: the lone surrogates of a foreign file name cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked_numbers(key: str, values: Sequence[Any]) -> tuple[float, ...]:
    """One or three finite numbers; ValueError otherwise."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= _LARGEST]
    if len(numbers) != len(values) or len(numbers) not in (1, 3):
        raise ValueError(f"{key} must be one number or three (one a channel)")
    if key == "std" and not all(numbers):
        raise ValueError("std must not be 0: pixels are divided by it")
    return tuple(float(number) for number in numbers)
