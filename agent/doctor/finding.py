"""Finding: the result of one check, and how to fix a problem."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warning", "fault"]

WITH_DETAILS = "Give a token with the scope read: sudo edge-agent doctor --token-file FILE"


@dataclass(frozen=True, slots=True)
class Finding:
    """`fault`: the agent cannot do its work; `warning`: it works, but not as well as it could. Both have a remedy."""

    about: str
    level: Level
    fact: str
    remedy: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ok(about: str, fact: str) -> Finding:
    return Finding(about, "ok", fact)


def warning(about: str, fact: str, remedy: str) -> Finding:
    return Finding(about, "warning", fact, remedy)


def fault(about: str, fact: str, remedy: str) -> Finding:
    return Finding(about, "fault", fact, remedy)
