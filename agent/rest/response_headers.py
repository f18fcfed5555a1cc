"""Response headers: what browsers must not do with the agent's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

Headers = list[tuple[bytes, bytes]]

# A route may set these itself.
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_CACHE = (b"cache-control", b"no-store")
_SECURITY: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # With no-referrer, browsers would send Origin: null with a form of the agent's own page.
    (b"referrer-policy", b"same-origin"),
]
# No Strict-Transport-Security: it counts for all ports of the host name, and browsers would refuse other services
# of the device that have only plain HTTP.
_ALL: Headers = [_POLICY, _CACHE, *_SECURITY]


def with_security(headers: Collection[tuple[bytes, bytes]]) -> Headers:
    """`headers`, which stay as they are, and those that every answer has."""
    added = _ALL
    own = {name for name, _ in headers}
    if _POLICY[0] in own or _CACHE[0] in own:
        added = [header for header in added if header[0] not in own]
    return [*headers, *added]
