"""Records: what became of each version, in text files that a person can read and remove."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.host.durable import replace_file
from agent.text import printable

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(r"^(Source|Recipe|Model|Key|Command): (.*)$", re.MULTILINE)
_MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Record:
    """`source` and `recipe` are digests of what was converted; a version with others is converted again.

    `reason` is why the version was refused. `model` is the SHA-256 of the finished file, `key` the id of the key that
    signed it, once it is in the output folder, and `command` the digest of the command that has delivered it.
    """

    source: str
    recipe: str
    reason: str | None = None
    model: str = ""
    key: str = ""
    command: str = field(default="")

    def placed(self, key: str) -> Record:
        return replace(self, key=key)

    def delivered(self, command: str) -> Record:
        return replace(self, command=command)


class Records:
    """`<reports>/<name>/<number>.converted.txt` or `.refused.txt`. All calls raise OSError."""

    def __init__(self, reports: Path) -> None:
        self._reports = reports

    def page(self, name: str, number: int) -> Path:
        """Of the evaluation; its figures are next to it."""
        return self._reports / name / f"{number}.html"

    def read(self, name: str, number: int) -> Record | None:
        """None if the version was not converted, or a person removed its record."""
        for path in (self._converted(name, number), self._refused(name, number)):
            try:
                with path.open("rb") as file:
                    text = file.read(_MAX_BYTES).decode(errors="replace")
            except FileNotFoundError:
                continue
            found = {key.lower(): value for key, value in _LINE.findall(text)}
            if found.keys() >= {"source", "recipe"}:
                reason = None if path == self._converted(name, number) else text.partition("\n")[0]
                return Record(**found, reason=reason)
        return None

    def write(self, name: str, number: int, record: Record, *, advice: str | None = None) -> None:
        """Replaces the version's earlier record."""
        converted, refused = self._converted(name, number), self._refused(name, number)
        path, other = (converted, refused) if record.reason is None else (refused, converted)
        head = "Converted." if record.reason is None else printable(record.reason)
        values = {key: getattr(record, key.lower()) for key in ("Source", "Recipe", "Model", "Key", "Command")}
        lines = [
            head,
            *([advice] if advice else []),
            "",
            *(f"{key}: {value}" for key, value in values.items() if value),
        ]
        replace_file(path, ("\n".join([*lines, ""])).encode(errors="replace"))
        other.unlink(missing_ok=True)

    def refusal(self, name: str, number: int) -> Path:
        return self._refused(name, number)

    def _converted(self, name: str, number: int) -> Path:
        return self._reports / name / f"{number}.converted.txt"

    def _refused(self, name: str, number: int) -> Path:
        return self._reports / name / f"{number}.refused.txt"
