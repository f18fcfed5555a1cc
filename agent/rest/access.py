"""Access: lets a request through if its token has the scope that the route needs."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from starlette.responses import JSONResponse

from agent.rest.refusals import Refusals, wait_s
from agent.security.tokens import CREATE, Token, find

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.types import ASGIApp, Receive, Scope as Request, Send

    from agent.rest.route_scopes import RouteScopes
    from agent.security.tokens import Scope

log = logging.getLogger(__name__)

Reason = Literal["not_set_up", "missing", "malformed", "unknown", "scope"]

_MAX_WAITING = 32  # refusals that wait at the same time; each keeps a connection open
_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/=-]{1,512})", re.IGNORECASE)  # RFC 6750 and RFC 9110
_HEADER = "the header Authorization: Bearer TOKEN"


class Tokens(Protocol):
    def tokens(self) -> Sequence[Token] | None:
        """None if no tokens are configured."""


class FailureCounter(Protocol):
    def auth_failed(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class AccessRules:
    """`tokens`: None if everyone may do everything. `is_local`: the same while no tokens are configured."""

    tokens: Tokens | None
    is_local: bool

    def tokens_now(self) -> Sequence[Token] | None:
        """None while everyone may do everything; empty while everyone is refused."""
        if self.tokens is None:
            return None
        tokens = self.tokens.tokens()
        return () if tokens is None and not self.is_local else tokens


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: Reason
    sentence: str


class Access:
    """ASGI middleware. It sets `granted` in the scope: whether the client may see what is not free for everyone."""

    def __init__(self, app: ASGIApp, *, routes: RouteScopes, rules: AccessRules, failures: FailureCounter) -> None:
        self._app = app
        self._routes = routes
        self._rules = rules
        self._failures = failures
        self._refusals = Refusals()
        self._waiting = 0

    async def __call__(self, scope: Request, receive: Receive, send: Send) -> None:
        needed = self._routes.needed(scope["method"], scope["path"])
        refusal = self._refusal(scope["headers"], needed or "read")
        scope["granted"] = refusal is None
        if refusal is None or needed is None:
            if refusal is not None and refusal.reason in ("malformed", "unknown"):
                self._count(refusal, scope)
            await self._app(scope, receive, send)
            return
        scope["route"] = self._routes.find(scope["method"], scope["path"])[0]  # its requests are counted by route
        answer = await self._answer(refusal, needed, self._count(refusal, scope))
        await answer(scope, receive, send)

    def _refusal(self, headers: Iterable[tuple[bytes, bytes]], needed: Scope) -> Refusal | None:
        """None if the client may do what needs the scope `needed`. A client certificate would be checked here."""
        tokens = self._rules.tokens_now()
        if tokens is None:
            return None
        given = [value for name, value in headers if name == b"authorization"]
        if not given or not tokens:
            return _without_token(needed, has_tokens=bool(tokens))
        bearer = _BEARER.fullmatch(given[0].strip(b" \t"))
        if len(given) > 1 or bearer is None:
            return Refusal("malformed", f"The Authorization header has no access token. Send {_HEADER} once.")
        token = find(bearer[1], tokens)
        if token is None:
            return Refusal("unknown", "The access token is unknown or was revoked. Use another one.")
        if token.includes(needed):
            return None
        return Refusal("scope", f"The access token {token.name} has the scope {token.scope}; this needs {needed}.")

    def _count(self, refusal: Refusal, scope: Request) -> float:
        """Counts a failure; returns how long its answer waits."""
        self._failures.auth_failed(refusal.reason)
        if refusal.reason not in ("malformed", "unknown"):  # such a client guesses nothing
            return 0.0
        client = scope["client"][0] if scope.get("client") else ""
        count = self._refusals.add(client)
        if count == 1:
            log.warning("%s sent a wrong access token. Further ones from it are answered slowly.", client)
        return wait_s(count)

    async def _answer(self, refusal: Refusal, needed: Scope, delay_s: float) -> JSONResponse:
        if delay_s and self._waiting >= _MAX_WAITING:
            sentence = f"Too many wrong access tokens. Retry after {delay_s:.0f} s."
            return JSONResponse({"error": sentence}, 429, {"Retry-After": str(round(delay_s) or 1)})
        if delay_s:
            self._waiting += 1
            try:
                await asyncio.sleep(delay_s)
            finally:
                self._waiting -= 1
        if refusal.reason == "scope":
            challenge = f'Bearer error="insufficient_scope", scope="{needed}"'
            return JSONResponse({"error": refusal.sentence}, 403, {"WWW-Authenticate": challenge})
        challenge = "Bearer" if refusal.reason in ("missing", "not_set_up") else 'Bearer error="invalid_token"'
        return JSONResponse({"error": refusal.sentence}, 401, {"WWW-Authenticate": challenge})


def _without_token(needed: Scope, *, has_tokens: bool) -> Refusal:
    if has_tokens:
        sentence = f"An access token is required. Send {_HEADER}. On the device, {CREATE} {needed} makes one."
        return Refusal("missing", sentence)
    remedy = f"On the device, run {CREATE} {needed}, or set http.anonymous to true, which lets everyone in."
    return Refusal("not_set_up", f"This agent has no access tokens yet, so it refuses every client. {remedy}")
