"""Shortcut: calls some endpoints without FastAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.routing import APIRoute
from starlette.requests import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from typing import TypeAlias

    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    Handlers: TypeAlias = Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]


class Shortcut:
    """ASGI middleware: answers the requests for `routes`, whose endpoints take only the request, and passes on others.

    FastAPI also has these routes, for its description and for wrong methods. To find and call one, it takes 110 µs,
    a third of the event loop's work for an upload.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[BaseRoute], handlers: Handlers) -> None:
        """`handlers` make the answers to errors, as FastAPI's do; one must be for Exception."""
        self._app = app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive)
        try:
            answer = await route.endpoint(request)
        except Exception as error:  # noqa: BLE001  (the handler logs it)
            handler = next(self._handlers[kind] for kind in type(error).__mro__ if kind in self._handlers)
            answer = await handler(request, error)
        await answer(scope, receive, send)
