"""Example: configs/agent.yaml, every key with its default and its description as a comment."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import yaml

from docs.reference_generator.keys import all_keys, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docs.reference_generator.keys import Key

_WIDTH = 118
_ENTRY_NAMES = {"cameras": "front", "settings": "birds", "profiles": "night"}
_HEAD = """\
# The configuration of edge-agent: every key with its default. `make reference` generates this file.
# Check your file with: edge-agent check-config FILE. An unknown key is an error.
# An environment variable overrides a key: EDGE_AGENT_HTTP__PORT=8080 sets http.port.
# For completion in an editor: edge-agent check-config --schema FILE > agent.schema.json
"""


def example_configuration() -> str:
    return "\n".join((_HEAD, "\n\n".join("\n".join(_lines(section, "")) for section in all_keys()), ""))


def _lines(key: Key, indent: str) -> Iterator[str]:
    yield from _comment(key.description, indent)
    if key.children:
        yield f"{indent}{key.name}:"
        for child in key.children:
            yield from _lines(child, f"{indent}  ")
        return
    yield indent + _line(key.name, key.default)
    if key.entry:
        yield f"{indent}#  {_ENTRY_NAMES[key.name]}:"
        yield from _entry(key.entry, f"{indent}#    ")
    elif isinstance(key.example, dict):
        yield from (f"{indent}#  {_line(name, value)}" for name, value in key.example.items())


def _entry(keys: Sequence[Key], indent: str) -> Iterator[str]:
    """A commented entry; each description starts in the same column."""
    settings = [indent + _line(key.name, key.default if key.example is None else key.example) for key in keys]
    column = max(map(len, settings)) + 2
    for key, setting in zip(keys, settings, strict=True):
        first, *more = textwrap.wrap(key.description, _WIDTH - column - 2, break_on_hyphens=False)
        yield f"{setting:{column}}# {first}"
        yield from (f"{indent.rstrip():{column}}# {line}" for line in more)


def _comment(text: str, indent: str) -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)


def _line(name: str, value: Any) -> str:
    if isinstance(value, list | dict):
        return f"{name}: {_flow(value)}"
    return yaml.safe_dump({name: value}).strip()


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(shown(each))}" for key, each in value.items()) + "}"
    return json.dumps(value)
