"""Access: lets a request through if its token has the scope that the route needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from agent.rest.connection import CERTIFICATE_UNTIL_S
from agent.rest.upload import client_address
from agent.security.access import Guard, too_many_wrong_tokens

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope as Request, Send

    from agent.rest.route_scopes import RouteScopes
    from agent.security.access import AccessRules, FailureCounter, Refusal
    from agent.security.tokens import Scope


class Access:
    """ASGI middleware. It sets `granted` in the scope: whether the client may see what is not free for everyone.

    It also sets `may`, a function: whether the client may still do what needs a given scope.
    """

    def __init__(self, app: ASGIApp, *, routes: RouteScopes, rules: AccessRules, failures: FailureCounter) -> None:
        self._app = app
        self._routes = routes
        self._guard = Guard(rules, failures=failures, header="the header Authorization: Bearer TOKEN")

    async def __call__(self, scope: Request, receive: Receive, send: Send) -> None:
        needed = self._routes.needed(scope["method"], scope["path"])
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        until_s = scope.get(CERTIFICATE_UNTIL_S, 0)

        def refusal_of(needed: Scope) -> Refusal | None:
            return self._guard.refusal(given, needed, certificate_until_s=until_s)

        refusal = refusal_of(needed or "read")
        scope["granted"] = refusal is None
        scope["may"] = lambda needed: refusal_of(needed) is None
        if refusal is None or needed is None:
            if refusal is not None and refusal.is_wrong_token:
                self._guard.count(refusal, client_address(scope))
            await self._app(scope, receive, send)
            return
        scope["route"] = self._routes.find(scope["method"], scope["path"])[0]  # its requests are counted by route
        answer = await self._answer(refusal, needed, self._guard.count(refusal, client_address(scope)))
        await answer(scope, receive, send)

    async def _answer(self, refusal: Refusal, needed: Scope, delay_s: float) -> JSONResponse:
        if not await self._guard.hold_back(delay_s):
            retry = {"Retry-After": str(round(delay_s) or 1)}
            return JSONResponse({"error": too_many_wrong_tokens(delay_s)}, 429, retry)
        if refusal.reason == "scope":
            challenge = f'Bearer error="insufficient_scope", scope="{needed}"'
            return JSONResponse({"error": refusal.sentence}, 403, {"WWW-Authenticate": challenge})
        challenge = "Bearer" if refusal.reason in ("missing", "not_set_up") else 'Bearer error="invalid_token"'
        return JSONResponse({"error": refusal.sentence}, 401, {"WWW-Authenticate": challenge})
