"""RouteScopes: the scope of each route, declared where the route is defined and shown in the OpenAPI description."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import APIRouter

    from agent.security.tokens import Scope

_SCHEME = "token"
_REMEMBERED = 64  # paths; a client may invent long ones


def needs(scope: Scope | None, **description: Any) -> dict[str, Any]:
    """The `openapi_extra` of a route that needs a token with `scope`; None: the route is free for everyone."""
    return {**description, "security": [] if scope is None else [{_SCHEME: [scope]}]}


class RouteScopes:
    """What the routes of some routers need. Raises TypeError for a route without a scope."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        routes = [route for router in routers for route in router.routes]
        self._routes = [_with_scope(route) for route in routes]
        self.find = functools.lru_cache(_REMEMBERED)(self._find)  # every request needs it twice

    def _find(self, method: str, path: str) -> tuple[APIRoute | None, Scope | None]:
        """The route that answers and the scope that it needs.

        A request that no route answers needs a scope too: strangers must not find out which routes exist, and a
        route that is missing here must not be open.
        """
        for route, scope in self._routes:
            if method in (route.methods or ()) and route.path_regex.match(path):
                return route, scope
        return None, "read" if method == "GET" else "admin"

    def needed(self, method: str, path: str) -> Scope | None:
        return self.find(method, path)[1]

    def below(self, prefix: str) -> str | None:
        """The path of a route that is or begins with `prefix`."""
        return next((route.path for route, _ in self._routes if f"{route.path}/".startswith(f"{prefix}/")), None)


def _with_scope(route: object) -> tuple[APIRoute, Scope | None]:
    extra = (route.openapi_extra or {}) if isinstance(route, APIRoute) else {}
    if not isinstance(route, APIRoute) or "security" not in extra:
        raise TypeError(f"The route {getattr(route, 'path', route)} has no scope. Declare it with needs().")
    return route, next((scope for scheme in extra["security"] for scope in scheme[_SCHEME]), None)
