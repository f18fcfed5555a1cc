"""Text: makes text from files, clients and other programs safe to show."""

from __future__ import annotations

from typing import Any


def printable(text: str, *, instead: str = " ") -> str:
    """Puts `instead` for each character that would break the line or control a terminal."""
    return "".join(letter if letter.isprintable() else instead for letter in text)


def shortened(text: str, most: int = 300) -> str:
    """The text on one line, without a full stop at its end; a longer one ends between two words."""
    words = " ".join(text.split()).rstrip(".")
    return words if len(words) <= most else f"{words[:most].rpartition(' ')[0] or words[:most]} (...)"


def printable_json(value: Any, depth: int = 4) -> Any:
    """Makes every string in a JSON value printable(); values nested deeper than `depth` become None."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict | list) and not depth:
        return None
    if isinstance(value, dict):
        return {printable(key): printable_json(part, depth - 1) for key, part in value.items()}
    return [printable_json(part, depth - 1) for part in value] if isinstance(value, list) else value


def is_unicode(text: str) -> bool:
    """Whether `text` can be encoded as UTF-8: lone surrogates, as in an undecodable file name, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
