"""Labels: reads label files."""

from __future__ import annotations

import re

from agent.errors import ModelError


def parse_labels(content: bytes, *, where: str) -> tuple[str, ...]:
    """One label per line, or `index label` lines with indices from 0 up; blank lines at the end are ignored."""
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ModelError(f"{where} is not UTF-8 text. Save the labels as UTF-8, one per line.") from None
    while lines and not lines[-1]:
        lines.pop()
    numbered = [re.fullmatch(r"([0-9]+)[\s:,]+(\S.*)", line) for line in lines]
    # Compared as text, because int() refuses thousands of digits.
    if numbered and all(match and (match[1].lstrip("0") or "0") == str(i) for i, match in enumerate(numbered)):
        return tuple(match[2] for match in numbered if match)
    return tuple(lines)
