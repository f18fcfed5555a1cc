"""Access: who may pass a door of the agent, by the access token or the certificate that the client presents."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from agent.security.refusals import Refusals, wait_s
from agent.security.tokens import CREATE, Token, find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.security.sessions import Sessions
    from agent.security.tokens import Scope

log = logging.getLogger(__name__)

Reason = Literal["not_set_up", "missing", "malformed", "unknown", "ended", "scope"]
COOKIE = "edge_agent_session"

_MAX_WAITING = 32  # refusals that wait at the same time; each keeps a connection open
_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/=-]{1,512})", re.IGNORECASE)  # RFC 6750 and RFC 9110


class Tokens(Protocol):
    def tokens(self) -> Sequence[Token] | None:
        """None if no tokens are configured."""


class FailureCounter(Protocol):
    def auth_failed(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class AccessRules:
    """`tokens`: None if everyone may do everything. `is_local`: the same while no tokens are configured.

    `has_certificates`: clients with a certificate may do everything. `sessions`: what browsers sign in to.
    """

    tokens: Tokens | None
    is_local: bool
    has_certificates: bool = False
    sessions: Sessions | None = None

    def tokens_now(self) -> Sequence[Token] | None:
        """None while everyone may do everything; empty while everyone without a certificate is refused."""
        if self.tokens is None:
            return None
        tokens = self.tokens.tokens()
        return () if tokens is None and not self.is_local else tokens


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: Reason
    sentence: str

    @property
    def is_wrong_token(self) -> bool:
        """Whether the client may be guessing."""
        return self.reason in ("malformed", "unknown")


class Guard:
    """Judges the requests at one door, and slows down clients that send wrong tokens. One thread only."""

    def __init__(self, rules: AccessRules, *, failures: FailureCounter, header: str) -> None:
        """`header` says in sentences what a client must send."""
        self._rules = rules
        self._failures = failures
        self._header = header
        self._refusals = Refusals()
        self._waiting = 0

    @property
    def needs_token(self) -> bool:
        """False while everyone may do everything."""
        return self._rules.tokens_now() is not None

    def sign_in(self, token: str) -> tuple[Token, str] | Refusal | None:
        """The token and the cookie of a new session; None while everyone may do everything."""
        tokens, sessions = self._rules.tokens_now(), self._rules.sessions
        if tokens is None:
            return None
        if not tokens or sessions is None:
            return self._without_token("read", has_tokens=bool(tokens))
        found = find(token.encode(errors="replace"), tokens)
        return (found, sessions.begin(found)) if found else Refusal("unknown", _UNKNOWN)

    def sign_out(self, cookie: str | None) -> None:
        if cookie is not None and self._rules.sessions is not None:
            self._rules.sessions.end(cookie)

    def refusal(
        self,
        given: Sequence[bytes],
        needed: Scope,
        *,
        certificate_until_s: float = 0,
        cookie: str | None = None,
    ) -> Refusal | None:
        """None if the client may do what needs the scope `needed`; `given` are its Authorization headers.

        `certificate_until_s`: the end of the validity of its verified certificate, in seconds since 1970. `cookie` is
        that of its session; it does not count if the client sent a token.
        """
        tokens = self._rules.tokens_now()
        if tokens is None or certificate_until_s > time.time():
            return None
        if not tokens or not (given or cookie):
            return self._without_token(needed, has_tokens=bool(tokens))
        if not given:
            return self._refusal_of_session(cookie or "", tokens, needed)
        bearer = _BEARER.fullmatch(given[0].strip(b" \t"))
        if len(given) > 1 or bearer is None:
            return Refusal("malformed", f"The Authorization header has no access token. Send {self._header} once.")
        token = find(bearer[1], tokens)
        if token is None:
            return Refusal("unknown", _UNKNOWN)
        return _refusal_of_scope(token, needed)

    def _refusal_of_session(self, cookie: str, tokens: Sequence[Token], needed: Scope) -> Refusal | None:
        found = "forged" if self._rules.sessions is None else self._rules.sessions.token_of(cookie, tokens)
        if found == "forged":
            return Refusal("unknown", "The session cookie is not valid. Sign in again.")
        if found == "ended":
            return Refusal("ended", "The session has ended, or its access token was revoked. Sign in again.")
        return _refusal_of_scope(found, needed)

    def count(self, refusal: Refusal, client: str) -> float:
        """Counts a failure; returns how long its answer waits, in seconds."""
        self._failures.auth_failed(refusal.reason)
        if not refusal.is_wrong_token:
            return 0.0
        count = self._refusals.add(client)
        if count == 1:
            log.warning("%s sent a wrong access token. Further ones from it are answered slowly.", client)
        return wait_s(count)

    async def hold_back(self, delay_s: float) -> bool:
        """Waits before the answer; False at once if too many other answers wait."""
        if delay_s and self._waiting >= _MAX_WAITING:
            return False
        self._waiting += 1
        try:
            await asyncio.sleep(delay_s)
        finally:
            self._waiting -= 1
        return True

    def _without_token(self, needed: Scope, *, has_tokens: bool) -> Refusal:
        if has_tokens or self._rules.has_certificates:
            other = " or, over HTTPS, a client certificate" if self._rules.has_certificates else ""
            remedy = f"Send {self._header}. On the device, {CREATE} {needed} makes one."
            return Refusal("missing", f"An access token{other} is required. {remedy}")
        remedy = f"On the device, run {CREATE} {needed}, or set http.anonymous to true, which lets everyone in."
        return Refusal("not_set_up", f"This agent has no access tokens yet, so it refuses every client. {remedy}")


_UNKNOWN = "The access token is unknown or was revoked. Use another one."


def _refusal_of_scope(token: Token, needed: Scope) -> Refusal | None:
    if token.includes(needed):
        return None
    return Refusal("scope", f"The access token {token.name} has the scope {token.scope}; this needs {needed}.")


def too_many_wrong_tokens(delay_s: float) -> str:
    return f"Too many wrong access tokens. Retry after {delay_s:.0f} s."
