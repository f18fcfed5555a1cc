"""Docs page: GET /docs: Swagger UI with our OpenAPI description. Its files come with the package fastapi-swagger."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
_INSIDE = rb"<script>(.*?)</script>"


def docs_routes(*, title: str) -> list[Route]:
    """The URLs of the page are relative, so it works below every path of a reverse proxy."""
    page = _page(title)
    folder = _folder()

    async def answer(_: Request) -> Response:
        return page

    async def answer_file(request: Request) -> Response:  # from the disk: they have 2 MB and are rarely read
        return FileResponse(folder / request.url.path.rpartition("/")[2], headers={"Cache-Control": "no-cache"})

    files = [Route(f"/docs/{name}", answer_file, include_in_schema=False) for name in _FILES]
    return [Route("/docs", answer, include_in_schema=False), *files]


def _page(title: str) -> HTMLResponse:
    script, style = (f"docs/{name}" for name in _FILES)
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url=script,
        swagger_css_url=style,
        swagger_favicon_url="data:,",
    )
    content = bytes(page.body)
    own = " ".join(f"'sha256-{_digest(script)}'" for script in re.findall(_INSIDE, content, re.DOTALL))
    policy = [
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; connect-src 'self'",
        f"script-src 'self' {own}",
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:",
    ]
    return HTMLResponse(content, headers={"Content-Security-Policy": "; ".join(policy)})


def _folder() -> Path:
    """Found without importing the package, whose code is not used."""
    package = importlib.util.find_spec("fastapi_swagger")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "resources"


def _digest(script: bytes) -> str:
    return base64.b64encode(hashlib.sha256(script).digest()).decode()
