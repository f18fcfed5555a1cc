"""Shortcut: calls the endpoints that classify without FastAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeAlias

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from agent.rest.route_scopes import RouteScopes

    Handlers: TypeAlias = Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]


class Shortcut:
    """ASGI middleware: answers the requests that need the scope `infer`, and passes on others.

    FastAPI also has these routes, for its description and for wrong methods. To find and call one, it takes 110 µs to
    250 µs, a third of the event loop's work for an upload and more. Their endpoints take only the request.
    """

    def __init__(self, app: ASGIApp, *, routes: RouteScopes, handlers: Handlers) -> None:
        """`handlers` make the answers to errors, as FastAPI's do; one must be for Exception."""
        self._app = app
        self._routes = routes
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route, needed = self._routes.find(scope["method"], scope["path"])
        found = route.path_regex.match(scope["path"]) if route is not None and needed == "infer" else None
        if route is None or found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], scope["path_params"] = route, found.groupdict()
        request = Request(scope, receive)
        try:
            answer = await route.endpoint(request)
        except Exception as error:  # noqa: BLE001  (the handler logs it)
            handler = next(self._handlers[kind] for kind in type(error).__mro__ if kind in self._handlers)
            answer = await handler(request, error)
        await answer(scope, receive, send)
