"""Origins: the web pages that may use the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.responses import Response
    from starlette.types import ASGIApp

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Origins:
    """Pages of the agent itself, and of the origins in `listed`; "*": all pages.

    A browser lets every page send forms anywhere, and sends a client certificate with them. It says where a request
    comes from in Sec-Fetch-Site (only to https and localhost) and Origin (Fetch standard); other clients send neither.
    """

    def __init__(self, listed: Collection[str] = ()) -> None:
        self._listed = frozenset(listed)

    def shared(self, app: ASGIApp) -> ASGIApp:
        """`app` with the headers that let pages of the listed origins read its answers; never with credentials."""
        if not self._listed:
            return app
        return CORSMiddleware(
            app,
            allow_origins=sorted(self._listed),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization"],
            expose_headers=["Retry-After", "Server-Timing", "WWW-Authenticate"],
            allow_private_network=True,
        )

    def refusal(
        self, method: str, *, origin: bytes | None, site: bytes | None, host: bytes, is_preflight: bool
    ) -> Response | None:
        """`site`: Sec-Fetch-Site. Reading is not refused: without CORS headers, the page does not get the answer."""
        if method in _READING and not is_preflight:
            return None
        shown = "null" if origin is None else origin.decode("latin-1")
        if not self._listed.isdisjoint((shown, "*")):
            return None
        if is_preflight or (site or _site(origin, host)) not in (b"same-origin", b"none"):
            sentence = f"Pages of the origin {shown} may not use this agent. To let them, add it to http.cors."
            return JSONResponse({"error": sentence}, 403)
        return None


def is_same_origin(origin: bytes | None, *, site: bytes | None, host: bytes) -> bool:
    """Whether the browser says that a page of the agent itself sent the request."""
    return origin is not None and _site(origin, host) == b"same-origin" and site in (None, b"same-origin")


def _site(origin: bytes | None, host: bytes) -> bytes:
    """What an older browser would send as Sec-Fetch-Site."""
    if origin is None:
        return b"none"
    return b"same-origin" if origin.partition(b"://")[2] == host.lower() else b"cross-site"
