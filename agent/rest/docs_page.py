"""The page /docs: Swagger UI, which its browser loads from the internet, with our OpenAPI description."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

_CDN = "https://cdn.jsdelivr.net"
_INSIDE = rb"<script>(.*?)</script>"


def docs_page(*, title: str) -> HTMLResponse:
    """The description's URL is relative, so the page works below every path of a reverse proxy."""
    page = get_swagger_ui_html(openapi_url="openapi.json", title=title, swagger_favicon_url="data:,")
    content = bytes(page.body)
    scripts = " ".join(f"'sha256-{_digest(script)}'" for script in re.findall(_INSIDE, content, re.DOTALL))
    policy = [
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; connect-src 'self'",
        f"script-src {_CDN} {scripts}",
        f"style-src {_CDN} 'unsafe-inline'; img-src 'self' data:",
    ]
    return HTMLResponse(content, headers={"Content-Security-Policy": "; ".join(policy)})


def _digest(script: bytes) -> str:
    return base64.b64encode(hashlib.sha256(script).digest()).decode()
