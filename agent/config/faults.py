"""Turns each fault in a configuration file into one sentence: the place, the key, the fault and what is allowed."""

from __future__ import annotations

import difflib
import os
import re
import reprlib
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from agent.errors import ConfigError
from agent.sources.address import redact

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails
    from pydantic_settings import SettingsError

_MESSAGES = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a string (put it in quotes)",
    "path_type": "must be a path",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}
_values = reprlib.Repr()
_values.maxstring = _values.maxother = 100


class _Loader(yaml.SafeLoader):
    """A SafeLoader that reports the position of a value that it cannot read, such as the date 2001-13-45."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002  (PyYAML's signature)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value!r} cannot be read", node.start_mark
            ) from None


def parse(text: str, where: str) -> tuple[dict[str, Any], yaml.Node | None]:
    """Returns the sections of a file, and the node that has the line of each key; raises ConfigError."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, None
        _check_keys(node, where)
        document = loader.construct_document(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(_yaml_sentence(error, where)) from None
    if document is not None and not isinstance(document, dict):
        raise ConfigError(f"{where} must contain sections such as `models:`.")
    return document or {}, node


def _check_keys(root: yaml.Node, where: str) -> None:
    """Refuses keys that are not strings, and duplicate keys, of which YAML would silently use the last."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(node)
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            waiting.append(value)
            line = key.start_mark.line + 1
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                shown = key.value if isinstance(key, yaml.ScalarNode) else "in brackets"
                raise ConfigError(f"{where}, line {line}: the key {shown} is not a string; put it in quotes.")
            if key.value in lines:
                first = lines[key.value]
                raise ConfigError(
                    f"{where}, line {line}: the key {key.value} is already used on line {first}; merge the two."
                )
            lines[key.value] = line


def _yaml_sentence(error: Exception, where: str) -> str:
    if isinstance(error, RecursionError):
        return f"{where} is not valid YAML: it is nested too deeply; remove brackets."
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}"
        return f"{place}, is not valid YAML: {error.problem}; check quotes, brackets and indentation there."
    reason = getattr(error, "reason", None) or " ".join(str(error).split())
    return f"{where} is not valid YAML: {reason}; save it as plain UTF-8 text."


def variable_sentence(error: SettingsError, prefix: str) -> str:
    """For a variable that sets several keys and is not valid JSON; pydantic names only its section."""
    section = re.search(r'field "(\w+)"', str(error))
    start = f"{prefix}{section[1] if section else ''}".upper()
    text = getattr(error.__cause__, "doc", None)
    same = (name for name, value in os.environ.items() if name.upper().startswith(start) and value == text)
    return f'The variable {next(same, start)} must be JSON, such as {{"key": 1}} or [0, 1], not {_shown(text)}.'


def unknown_key_sentence(path: list[str], place: str, known: list[str]) -> str:
    near = difflib.get_close_matches(path[-1].lower(), known, 1, 0.7)
    remedy = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}."
    return f"{place}: unknown key {'.'.join(path)}; {remedy}"


def unknown_name_sentence(path: list[str], place: str, known: list[str]) -> str:
    """For the name of something that another section must have."""
    near = difflib.get_close_matches(path[-1], known, 1, 0.7)
    remedy = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}."
    return f"{place}: {'.'.join(path)} is not in the configuration; {remedy}"


def sentence(
    error: ValidationError, *, root: type[BaseModel], where: str, node: yaml.Node | None, prefix: str | None
) -> str:
    """Describes the first fault in `root`, read from the YAML `node` and from variables that start with `prefix`."""
    faults = [(_path(root, fault["loc"]), fault) for fault in error.errors(include_url=False)]
    path, fault = faults[0]
    # Each branch of a union reports its own fault; the one with the longest path is the most precise.
    branches = [(other, each) for other, each in faults if other[: len(path)] == path]
    path, fault = max(branches, key=lambda branch: len(branch[0]))
    if not path:
        return f"{where}: {_message(fault, path, root)}."
    place = place_of(path, where, node, prefix)
    if fault["type"] == "extra_forbidden":
        section = _kind(root, path[:-1])
        return unknown_key_sentence(path, place, list(section.model_fields))
    key = ".".join(path)
    if fault["type"] == "missing":
        return f"{place}: {key} is missing; add it."
    messages = dict.fromkeys(_message(each, path, root) for other, each in branches if other == path)
    message = " or ".join(messages).replace(" or must be ", " or ")
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return f"{place}: {key} {message}."
    if message.endswith("."):
        return f"{place}: {key} {message}"
    return f"{place}: {key} {message}, not {_shown(fault['input'])}."


def _shown(value: Any) -> str:
    """Shortened, and without the password of a URL."""
    return _values.repr(_hidden(value))


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _hidden(each) for key, each in value.items()}
    return [_hidden(each) for each in value] if isinstance(value, list) else value


def line_of(path: list[str], node: yaml.Node | None) -> int | None:
    """Returns the line, counted from 1, of the deepest key of `path` that the file has."""
    line = None
    for step in path:
        if not isinstance(node, yaml.MappingNode):
            break
        # The last of two equal keys wins: a merge with `<<` comes before the keys that override it.
        pair = next((pair for pair in reversed(node.value) if pair[0].value == step), None)
        if pair is None:
            break
        line, node = pair[0].start_mark.line + 1, pair[1]
    return line


def place_of(path: list[str], where: str, node: yaml.Node | None, prefix: str | None) -> str:
    line = line_of(path, node)
    if prefix is None:
        return f"{where}, line {line}" if line else where
    variable = f"{prefix}{'__'.join(path).upper()}"
    if any(name.upper() == variable and value for name, value in os.environ.items()):
        return f"The variable {variable}"
    return f"{where}, line {line}" if line else f"{where} or the variable {variable}"


def _message(fault: ErrorDetails, path: list[str], root: type[BaseModel]) -> str:
    if fault["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return _section_message(_kind(root, path))
    if fault["type"] in _MESSAGES:
        return _MESSAGES[fault["type"]].format(**fault.get("ctx", {}))
    message = fault["msg"].removeprefix("Value error, ").replace("Input should", "must")
    # The checks shared with sidecars already name their key.
    message = message.removeprefix(f"{path[-1]} ") if path else message
    return message[0].lower() + message[1:]


def _section_message(kind: Any) -> str:
    if get_origin(kind) is dict:
        return "must be a section with a name for each entry"
    return f"must be a section with keys such as `{next(iter(kind.model_fields))}:`"


def _path(root: type[BaseModel], loc: Iterable[int | str]) -> list[str]:
    """Returns the keys of `loc` without the steps that pydantic adds for dict keys and branches of unions."""
    path: list[str] = []
    for step in loc:
        if step != "[key]" and (isinstance(step, int) or _has_keys(_kind(root, path))):
            path.append(str(step))
    return path


def _kind(root: Any, path: list[str]) -> Any:
    kind = root
    for step in path:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            field = kind.model_fields.get(step) if _has_keys(kind) else None
            kind = _given(field.annotation) if field else None
    return kind


def _given(kind: Any) -> Any:
    """X for `X | None`."""
    choices = [each for each in get_args(kind) if each is not NoneType]
    return choices[0] if get_origin(kind) is UnionType and len(choices) == 1 else kind


def _has_keys(kind: Any) -> bool:
    return get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel))
