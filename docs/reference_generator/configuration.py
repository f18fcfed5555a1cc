"""Configuration: the page with every key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.config.sections import ENV_PREFIX
from docs.reference_generator.keys import all_keys
from docs.reference_generator.markdown import code, page, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docs.reference_generator.keys import Key

_ENTRY_NAMES = {
    "cameras": "<camera>",
    "cameras.<camera>.controls": "<control>",
    "cameras.<camera>.views": "<view>",
    "models.settings": "<model>",
    "models.canary": "<model>",
    "profiles": "<profile>",
    "profiles.<profile>.cameras": "<camera>",
    "profiles.<profile>.cameras.<camera>.views": "<view>",
}
_INTRODUCTION = f"""
# Configuration keys

For everyone who writes an `agent.yaml`: every key with its values, its default and its meaning.
[configs/agent.yaml](../../configs/agent.yaml) has the same as a file to start from.

- Every key has a default, but a camera needs a `source` or a `command`. An empty file is valid.
- `null` or an empty value means the default.
- An unknown key is an error. `edge-agent check-config FILE` reports its line and suggests a key.
- Relative paths are relative to the folder of the configuration file. `~` is the home folder.
- The agent reads the file when it starts. `sudo systemctl reload edge-agent`, or the signal SIGHUP,
  lets it use changes of `cameras` and `profiles`; changes of other sections need a restart.

## Environment variables

Each key can be set by a variable, which overrides the file. The name is `{ENV_PREFIX}`, then the
key in capitals with `__` in place of each dot:

| key | variable |
|---|---|
| `http.port` | `{ENV_PREFIX}HTTP__PORT=8080` |
| `cameras.front.source` | `{ENV_PREFIX}CAMERAS__FRONT__SOURCE=/dev/video0` |
| `models.canary` | `{ENV_PREFIX}MODELS__CANARY='{{"birds": 0.1}}'` |

- A variable for a section or a list contains JSON.
- An empty variable is ignored.
- Names of cameras and models that are set this way are in lower case.

## Completion in an editor

```
edge-agent check-config --schema agent.yaml > agent.schema.json
```

writes a JSON Schema. In VS Code with the YAML extension, put this line at the top of the file:

```yaml
# yaml-language-server: $schema=agent.schema.json
```
"""


def configuration_page() -> str:
    parts = [_INTRODUCTION]
    for section in all_keys():
        rows = _rows(section, section.name)
        parts += [f"## {section.name}", section.description, table(("key", "value", "default", "description"), rows)]
    return page(*parts, source="agent/config/sections.py")


def _rows(key: Key, path: str) -> Iterator[tuple[str, str, str, str]]:
    if path in _ENTRY_NAMES:
        path = f"{path}.{_ENTRY_NAMES[path]}"
    if "." in path:
        yield code(path), key.values, _default(key), key.description
    for child in (*key.children, *key.entry):
        yield from _rows(child, f"{path}.{child.name}")


def _default(key: Key) -> str:
    if key.children or key.default in (None, {}, ""):
        return ""
    return code(key.default if isinstance(key.default, str) else json.dumps(key.default))
