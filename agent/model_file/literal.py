"""Literal: reads a JSON value, or the Python value that str() of a dict or a list printed."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_MAX_PYTHON_CHARACTERS = 1 << 18
_MAX_TOKENS = 1 << 16  # ast needs about 500 bytes for each
_MAX_DEPTH = 8
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<value>'(?:\\.|[^'\\\n])*' | "(?:\\.|[^"\\\n])*" | True | False | None
        | -?[0-9]{1,20}(?:\.[0-9]+)?(?:e[-+]?[0-9]{1,3})?)
    | (?P<open>[\[{(]) | (?P<close>[\]})]) | (?P<mark>[,:])
    )\s*""",
    re.VERBOSE,
)


def parse_literal(text: str) -> Any:
    """None if it is neither. Python values may contain 256 k characters, 64 k tokens and 8 levels."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > _MAX_PYTHON_CHARACTERS or not _is_plain(text):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _is_plain(text: str) -> bool:
    """Whether the text has only constants in a few levels of brackets, and not too many of them.

    Operators, calls and deep nesting would let ast build a tree so deep that Python itself crashes.
    """
    position = depth = tokens = 0
    value_may_follow = True
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None or (token.lastgroup in ("value", "open") and not value_may_follow):
            return False
        depth += (token.lastgroup == "open") - (token.lastgroup == "close")
        tokens += 1
        if not 0 <= depth <= _MAX_DEPTH or tokens > _MAX_TOKENS:
            return False
        value_may_follow = token.lastgroup in ("open", "mark")
        position = token.end()
    return True
