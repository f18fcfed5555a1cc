"""Keys: every key of the configuration, read from its JSON Schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.config.sections import Config
from docs.reference_generator.markdown import code_list

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEMA = Config.model_json_schema()
_TYPES = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}


@dataclass(frozen=True)
class Key:
    """A key, or a section with `children`. A section with free names has the `values` or keys of each `entry`."""

    name: str
    description: str
    default: Any
    values: str
    example: Any
    children: tuple[Key, ...] = ()
    entry: tuple[Key, ...] = ()


def all_keys() -> tuple[Key, ...]:
    return _keys(_SCHEMA)


def shown(value: Any) -> Any:
    """10 instead of 10.0, also in lists."""
    if isinstance(value, list):
        return [shown(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _keys(section: Mapping[str, Any]) -> tuple[Key, ...]:
    return tuple(_key(name, schema) for name, schema in section["properties"].items())


def _key(name: str, schema: Mapping[str, Any]) -> Key:
    target = _resolved(schema)
    entries = _resolved(target.get("additionalProperties") or {})
    return Key(
        name=name,
        description=schema["description"],
        default=shown(schema.get("default")),
        values=_values(entries if entries and "properties" not in entries else target),
        example=schema.get("examples", [None])[0],
        children=_keys(target) if "properties" in target else (),
        entry=_keys(entries) if "properties" in entries else (),
    )


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without a reference, and without null, which every key with a default accepts."""
    choices = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(choices) == 1:
        return _resolved(choices[0])
    if "$ref" not in schema:
        return schema
    resolved: Mapping[str, Any] = _SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    return resolved


def _values(schema: Mapping[str, Any]) -> str:
    """The type and the range, or the choices."""
    if "anyOf" in schema:
        return " or ".join(_values(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "const" in schema or "enum" in schema:
        return code_list(schema.get("enum") or [schema["const"]])
    if isinstance(schema["type"], list):
        return " or ".join(_TYPES[each] for each in schema["type"])
    if schema["type"] == "array":
        items = schema.get("prefixItems") or [schema["items"]]
        if items[0]["type"] == "array":
            return f"list of {_values(items[0]).replace('list', 'lists', 1)}"
        count = f"{len(items)} " if "prefixItems" in schema else ""
        return f"list of {count}{_TYPES[items[0]['type']]}s"
    return "section" if schema["type"] == "object" else _bounded(schema)


def _bounded(schema: Mapping[str, Any]) -> str:
    kind = "path" if schema.get("format") == "path" else _TYPES[schema["type"]]
    if "minimum" in schema and "maximum" in schema:
        return f"{kind}, {shown(schema['minimum'])} to {shown(schema['maximum'])}"
    return ", ".join((kind, *(text.format(shown(schema[key])) for key, text in _BOUNDS.items() if key in schema)))
