"""Sessions: cookies that stand for an access token, so that a browser need not keep the token itself.

A cookie has a random id, the end of its validity, the beginning of the token's hash, and an HMAC-SHA-256 of these. So
the agent stores nothing for a session, and it ends when its token is revoked.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Literal

from agent.host.durable import write_and_rename

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.security.tokens import Token

log = logging.getLogger(__name__)

LIFETIME_S = 12 * 3600

_COOKIE = re.compile(r"([0-9a-f]{16}\.([0-9]{1,12})\.([0-9a-f]{32}))\.([0-9a-f]{64})")
_KEY_BYTES = 32
_MAX_ENDED = 1000  # sessions that were signed out before their time; kept in memory


class Sessions:
    """`key_file` is created, with mode 0600, when the first session begins. One thread only."""

    def __init__(self, key_file: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._key_file = key_file
        self._clock = clock
        self._key: bytes | None = None
        self._ended: dict[str, float] = {}

    def begin(self, token: Token) -> str:
        """The value of a new cookie."""
        self._key = self._read_key() or self._new_key()
        fields = f"{secrets.token_hex(8)}.{int(self._clock()) + LIFETIME_S}.{token.sha256[:32]}"
        return f"{fields}.{_mac(self._key, fields)}"

    def token_of(self, cookie: str, tokens: Sequence[Token]) -> Token | Literal["forged", "ended"]:
        found = _COOKIE.fullmatch(cookie)
        self._key = self._read_key()
        if found is None or self._key is None or not hmac.compare_digest(_mac(self._key, found[1]), found[4]):
            return "forged"
        if int(found[2]) <= self._clock() or found[1] in self._ended:
            return "ended"
        return next((token for token in tokens if hmac.compare_digest(token.sha256[:32], found[3])), "ended")

    def end(self, cookie: str) -> None:
        """Refuses the cookie from now on. Does nothing for one that is not valid."""
        found = _COOKIE.fullmatch(cookie)
        if found is not None and self.token_of(cookie, ()) == "ended":
            now_s = self._clock()
            self._ended = {fields: until_s for fields, until_s in self._ended.items() if until_s > now_s}
            self._ended[found[1]] = int(found[2])
            if len(self._ended) > _MAX_ENDED:
                del self._ended[next(iter(self._ended))]

    def _read_key(self) -> bytes | None:
        if self._key is not None:
            return self._key
        try:
            key = self._key_file.read_bytes()
        except OSError:
            return None
        return key if len(key) == _KEY_BYTES else None

    def _new_key(self) -> bytes:
        """Blocks for one write to the disk, once in the life of a device."""
        key = secrets.token_bytes(_KEY_BYTES)
        aside = self._key_file.with_name(f".{self._key_file.name}.new")
        try:
            aside.unlink(missing_ok=True)  # a power cut may have left it
            write_and_rename(aside, self._key_file, key, mode=0o600)
        except OSError as error:
            log.warning("Cannot write %s: %s. Sessions will end with this run.", self._key_file, error.strerror)
        return key


def _mac(key: bytes, fields: str) -> str:
    return hmac.new(key, fields.encode(), hashlib.sha256).hexdigest()
