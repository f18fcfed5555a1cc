"""Options: the options of a command as keys of a YAML section, so that a recipe needs no list of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, Field, create_model
from typer.models import OptionInfo

from agent.config.section import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


@dataclass(frozen=True, slots=True)
class Options:
    """The words of a command line, and the files and folders among them by the names of their keys."""

    words: tuple[str, ...]
    places: Mapping[str, Path]


def section_of(command: Callable[..., None], *, without: Collection[str]) -> type[Section]:
    """A section with a key for each option of a typer command, except those in `without`."""
    fields: dict[str, Any] = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        info = next((each for each in get_args(hint)[1:] if isinstance(each, OptionInfo)), None)
        key = None if info is None else _key(name, info)
        if info is not None and key not in without:
            fields[str(key)] = Annotated[_kind(get_args(hint)[0], info), Field(description=info.help)], None
    return create_model("Options", __base__=Section, **fields)


def options_of(section: Section, folder: Path) -> Options:
    """The options that `section` sets. Relative paths are relative to `folder`."""
    words: list[str] = []
    places: dict[str, Path] = {}
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Path):
            value = places[key] = anchored(value, folder)
        words += _words(f"--{key.replace('_', '-')}", value)
    return Options(tuple(words), places)


def anchored(path: Path, folder: Path) -> Path:
    """`path`, relative to `folder`; raises RuntimeError for the home folder of an unknown user."""
    return Path(os.path.normpath(folder / path.expanduser()))


def _key(name: str, info: OptionInfo) -> str:
    """As on the command line: --keep-float is keep_float, whatever the parameter is called."""
    flags = [each for each in map(str, (info.default, *(info.param_decls or ()))) if each.startswith("--")]
    return flags[0].removeprefix("--").replace("-", "_") if flags else name


def _kind(hint: Any, info: OptionInfo) -> Any:
    """The type of the value in YAML."""
    choices = [each for each in get_args(hint) if each is not type(None)]
    kind = choices[0] if len(choices) == 1 and get_origin(hint) not in (list, Literal) else hint
    if kind is str:
        return Annotated[str, BeforeValidator(_as_text)]
    return Annotated[kind, Field(ge=info.min, le=info.max)] if kind in (int, float) else kind


def _as_text(value: Any) -> Any:
    """`mean: 127.5` and `mean: [123.7, 116.3, 103.5]` need no quotes."""
    values = value if isinstance(value, list) else [value]
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in values):
        return value
    return ",".join(map(str, values))


def _words(flag: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [flag]
    return [f"{flag}={each}" for each in (value if isinstance(value, list) else [value])]
