"""Recipe: the file that says what to watch, how to convert each model, and where finished versions go."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, create_model

from agent.config.faults import parse, sentence
from agent.config.section import Name, Section
from agent.errors import ConfigError
from agent.host.access import explain
from converter.errors import UsageError
from converter.watching.options import Options, anchored, options_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_PLACEHOLDERS = ("name", "version")


@dataclass(frozen=True, slots=True)
class Recipe:
    """`command` runs after each finished version, in `output`; {name} and {version} stand for the model's."""

    source: Path
    output: Path
    reports: Path
    key: Path | None
    password_file: Path | None
    command: tuple[str, ...]
    rest_s: float
    max_minutes: float
    models: Mapping[str, Options]

    @property
    def missing(self) -> Iterator[str]:
        """A sentence for each file or folder that does not exist; one may be on a disk that is not mounted."""
        for key, place in (("source", self.source), ("output", self.output)):
            if not place.is_dir():
                yield f"The folder {place} does not exist ({key}). Create it, or mount its disk."
        for name in self.models:
            yield from self.missing_for(name)

    def missing_for(self, name: str) -> Iterator[str]:
        """As `missing`, only for what the options of this model name."""
        for key, place in self.models[name].places.items():
            if not place.exists():
                yield f"{place} does not exist (models.{name}.{key}). Create it, or correct the path."

    def command_for(self, name: str, number: int) -> list[str]:
        return [word.replace("{name}", name).replace("{version}", str(number)) for word in self.command]


def digest_of(words: tuple[str, ...]) -> str:
    """Changes when a word does; for options and commands that were used before."""
    return hashlib.sha256("\0".join(words).encode(errors="surrogateescape")).hexdigest()


def _command(words: list[str]) -> list[str]:
    if not words:
        raise ValueError("must have at least the name of a program")
    for unknown in (name for word in words for name in _PLACEHOLDER.findall(word) if name not in _PLACEHOLDERS):
        raise ValueError(f"has {{{unknown}}}; only {{name}} and {{version}} are replaced")
    return words


class _Places(Section):
    source: Path = Field(description="Folder of trained models: <source>/<model>/<integer>/saved_model.pb.")
    output: Path = Field(description="Folder for finished versions: <output>/<model>/<integer>/model.tflite.")
    reports: Path = Field(description="Folder for reports and reasons of refusals; must not be one of a device.")
    key: Path | None = Field(None, description="Secret key that signs each version.")
    password_file: Path | None = Field(None, description="File with only the password of the key.")
    command: Annotated[list[str], AfterValidator(_command)] | None = Field(
        None, description="Program and arguments to run in `output` after each finished version."
    )
    rest_s: float = Field(5, ge=0, description="A version is taken once it has not changed for this time.")
    max_minutes: float = Field(120, gt=0, description="A conversion that takes longer is ended.")


def load_recipe(path: Path, options: type[Section]) -> Recipe:
    """`options` is the section of each model. Raises UsageError with one sentence.

    Relative paths are relative to the folder of the recipe.
    """
    models = Field(min_length=1, description="The models to convert, with the options of edge-convert convert.")
    document: type[_Places] = create_model("Recipe", __base__=_Places, models=(dict[Name, options], models))  # type: ignore[valid-type]
    try:
        keys, node = parse(_read(path), str(path))
        found = document(**keys)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    except ValidationError as error:
        raise UsageError(sentence(error, root=document, where=str(path), node=node, prefix=None)) from None
    try:
        recipe = _recipe(found, path.parent.absolute())
    except RuntimeError as error:
        raise UsageError(f"{path}: {error} Write the full path.") from None
    _check(recipe, path)
    return recipe


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The recipe {path} cannot be read: {explain(error, path)}") from None


def _recipe(found: Any, folder: Path) -> Recipe:
    places = {key: getattr(found, key) for key in ("source", "output", "reports", "key", "password_file")}
    return Recipe(
        **{key: place and anchored(place, folder) for key, place in places.items()},
        command=tuple(found.command or ()),
        rest_s=found.rest_s,
        max_minutes=found.max_minutes,
        models={name: options_of(section or type(section)(), folder) for name, section in found.models.items()},
    )


def _check(recipe: Recipe, where: Path) -> None:
    """A folder inside another one of these would be taken for a model, by the watch or by an agent."""
    for inner, outer in (("output", "source"), ("reports", "source"), ("source", "output"), ("reports", "output")):
        place, other = getattr(recipe, inner).resolve(), getattr(recipe, outer).resolve()
        if place == other or other in place.parents:
            raise UsageError(f"{where}: {inner} {place} is inside {outer} {other}. Use separate folders.")
    if recipe.password_file is not None and recipe.key is None:
        raise UsageError(f"{where}: password_file is the password of a key. Add the key, or remove password_file.")
