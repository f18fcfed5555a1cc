"""ULID: identifiers that sort by time (github.com/ulid/spec)."""

from __future__ import annotations

import random

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]


def ulid(unix_ns: int) -> str:
    """26 characters: 48 bits of milliseconds, 80 random bits."""
    number = (unix_ns // 1_000_000) << 80 | random.getrandbits(80)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])
