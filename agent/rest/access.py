"""Access: lets a request through if its token or its session has the scope that the route needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from agent.rest.connection import CERTIFICATE_UNTIL_S
from agent.rest.origins import is_same_origin
from agent.rest.upload import client_address
from agent.security.access import COOKIE, too_many_wrong_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope as Request, Send

    from agent.rest.route_scopes import RouteScopes
    from agent.security.access import Guard, Refusal
    from agent.security.tokens import Scope

_COOKIE = f"{COOKIE}=".encode()


class Access:
    """ASGI middleware. It sets `granted` in the scope: whether the client may see what is not free for everyone.

    It also sets `may`, a function: whether the client may still do what needs a given scope.
    """

    def __init__(self, app: ASGIApp, *, routes: RouteScopes, guard: Guard) -> None:
        self._app = app
        self._routes = routes
        self._guard = guard

    async def __call__(self, scope: Request, receive: Receive, send: Send) -> None:
        needed = self._routes.needed(scope["method"], scope["path"])
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        until_s = scope.get(CERTIFICATE_UNTIL_S, 0)
        cookie = None if given else session_cookie(scope["headers"])
        is_unsafe = cookie is not None and scope["method"] != "GET" and not _is_from_own_page(scope)
        if is_unsafe:
            cookie = None

        def refusal_of(needed: Scope) -> Refusal | None:
            return self._guard.refusal(given, needed, certificate_until_s=until_s, cookie=cookie)

        refusal = refusal_of(needed or "read")
        scope["granted"] = refusal is None
        scope["may"] = lambda needed: refusal_of(needed) is None
        if refusal is None or needed is None:
            if refusal is not None and refusal.is_wrong_token:
                self._guard.count(refusal, client_address(scope))
            await self._app(scope, receive, send)
            return
        scope["route"] = self._routes.find(scope["method"], scope["path"])[0]  # its requests are counted by route
        answer = await refused(self._guard, refusal, needed, client_address(scope))
        if is_unsafe and answer.status_code == 401:
            answer = JSONResponse({"error": _UNSAFE}, 403)
        await answer(scope, receive, send)


async def refused(guard: Guard, refusal: Refusal, needed: Scope, client: str) -> JSONResponse:
    """Counts the refusal; the answer to a client that may be guessing comes late."""
    delay_s = guard.count(refusal, client)
    if not await guard.hold_back(delay_s):
        retry = {"Retry-After": str(round(delay_s) or 1)}
        return JSONResponse({"error": too_many_wrong_tokens(delay_s)}, 429, retry)
    if refusal.reason == "scope":
        challenge = f'Bearer error="insufficient_scope", scope="{needed}"'
        return JSONResponse({"error": refusal.sentence}, 403, {"WWW-Authenticate": challenge})
    challenge = "Bearer" if refusal.reason in ("missing", "not_set_up", "ended") else 'Bearer error="invalid_token"'
    return JSONResponse({"error": refusal.sentence}, 401, {"WWW-Authenticate": challenge})


def session_cookie(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The first one, which has the longest path (RFC 6265, 5.4)."""
    for name, value in headers:
        if name == b"cookie":
            for pair in value.split(b";"):
                if pair.strip().startswith(_COOKIE):
                    return pair.strip().removeprefix(_COOKIE).decode("latin-1")
    return None


def _is_from_own_page(scope: Request) -> bool:
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"")
    return is_same_origin(headers.get(b"origin"), site=headers.get(b"sec-fetch-site"), host=host)


_UNSAFE = (
    "A session cookie changes something only if the agent's own page sends the request. Other clients: send the header "
    "Authorization: Bearer TOKEN."
)
