"""Front: what happens to every request before its token is looked at, and to every answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.rest.hosts import MISDIRECTED, Hosts
from agent.rest.response_headers import with_security

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope as Request, Send

    from agent.rest.origins import Origins
    from agent.rest.route_scopes import RouteScopes


class AnswerCounter(Protocol):
    def answered(self, route: str, code: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Reach:
    """Host names (in lower case), origins of web pages and the path prefix by which clients may reach the agent."""

    hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    base_path: str = ""


class Front:
    """ASGI middleware: takes `base_path` off the path, refuses foreign hosts and origins, adds security headers.

    It runs for every request, so it reads the request's headers once and keeps the others prepared.
    """

    def __init__(
        self, app: ASGIApp, *, reach: Reach, origins: Origins, routes: RouteScopes, answers: AnswerCounter
    ) -> None:
        self._app = app
        self._base_path = reach.base_path
        self._hosts = Hosts(reach.hosts)
        self._origins = origins
        self._routes = routes
        self._answers = answers

    async def __call__(self, scope: Request, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = with_security(message["headers"])
            await send(message)

        if self._base_path:
            scope["path"] = _without_prefix(scope["path"], self._base_path)
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, secured)
        else:
            self._answers.answered("other", refusal.status_code)
            await refusal(scope, receive, secured)

    def _refusal(self, scope: Request) -> Response | None:
        hosts: list[bytes] = []
        origin = site = None
        is_preflight = False
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"access-control-request-method":
                is_preflight = scope["method"] == "OPTIONS"
        refusal = self._hosts.refusal(hosts, scope["http_version"])
        if refusal is not None and not (refusal.status_code == MISDIRECTED and self._is_free(scope)):
            return refusal
        if origin is None and site is None:
            return None
        return self._origins.refusal(
            scope["method"], origin=origin, site=site, host=b"".join(hosts), is_preflight=is_preflight
        )

    def _is_free(self, scope: Request) -> bool:
        """Load balancers probe with whatever name they have for the agent, and learn nothing else from it."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        return self._routes.needed(method, scope["path"]) is None


def _without_prefix(path: str, prefix: str) -> str:
    """Once; a proxy may have removed it already."""
    if path == prefix:
        return "/"
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path
