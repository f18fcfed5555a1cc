"""Choices: what computes each model, remembered across restarts, because the trial of an accelerator takes seconds."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter, ValidationError

from agent.host.durable import replace_file
from agent.runtimes.selection import Choice  # noqa: TC001  (pydantic reads the annotation)

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

_MOST = 100  # of all models, drivers and runtimes; the oldest are forgotten


@dataclass(slots=True)
class _Content:
    choices: dict[str, Choice] = field(default_factory=dict)
    format: Literal[1] = 1


_CONTENT = TypeAdapter(_Content)


class Choices:
    """One JSON file. Blocks; one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Reads `path` only when it is needed. An unreadable file counts as empty: the trials are repeated."""
        self._path = path
        self._content: _Content | None = None

    def get(self, key: str) -> Choice | None:
        return self._read().choices.get(key)

    def put(self, key: str, choice: Choice) -> None:
        """If it cannot be written, the next start tries again."""
        content = self._read()
        content.choices.pop(key, None)
        content.choices[key] = choice
        content.choices = dict(list(content.choices.items())[-_MOST:])
        try:
            replace_file(self._path, _CONTENT.dump_json(content, indent=1))
        except OSError as error:
            log.warning("Cannot write %s: %s. The next start tries the GPU again.", self._path, error.strerror)

    def _read(self) -> _Content:
        if self._content is None:
            try:
                self._content = _CONTENT.validate_json(self._path.read_bytes())
            except (OSError, ValidationError):
                self._content = _Content()
        return self._content


def key_of(**facts: str | int) -> str:
    """The same for the same facts, such as the model's SHA-256, the driver and the runtime."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
