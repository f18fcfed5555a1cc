"""Text: what others wrote, made safe to show."""

from __future__ import annotations

from typing import Any


def printable(text: str, *, instead: str = " ") -> str:
    """On one line, with `instead` for each character that would break the line or steer a terminal."""
    return "".join(letter if letter.isprintable() else instead for letter in text)


def printable_json(value: Any, depth: int = 4) -> Any:
    """A JSON value with every text printable(), and None for what is nested deeper than `depth`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict | list) and not depth:
        return None
    if isinstance(value, dict):
        return {printable(key): printable_json(part, depth - 1) for key, part in value.items()}
    return [printable_json(part, depth - 1) for part in value] if isinstance(value, list) else value
