"""Routes: GET / and /page: the page for people, whose files lie next to this module."""

from __future__ import annotations

import functools
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import RedirectResponse, Response

from agent.rest.route_scopes import needs

_FOLDER = Path(__file__).parent
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


def page_router(*, base_path: str = "") -> APIRouter:
    """The page is free for everyone, because strangers must be able to sign in; it contains no secret."""
    router = APIRouter()
    # Only what is there at the start is served, so no path leads out of the folder.
    paths = {path.relative_to(_FOLDER).as_posix(): path for path in _FOLDER.rglob("*") if path.suffix in _TYPES}

    @router.get("/", include_in_schema=False, openapi_extra=needs(None))
    async def page(request: Request) -> Response:
        # The page's URLs are relative: below /edge, they would lead to /page instead of /edge/page.
        if base_path and request.scope["raw_path"] == base_path.encode():
            return RedirectResponse(f".{base_path[base_path.rindex('/') :]}/", 308)
        return _read(paths["index.html"]).answer(request)

    @router.get("/page/{name:path}", include_in_schema=False, openapi_extra=needs(None))
    async def part(name: str, request: Request) -> Response:
        if name not in paths:
            raise HTTPException(404, f"The page has no file {name}.")
        return _read(paths[name]).answer(request)

    return router


@dataclass(frozen=True, slots=True)
class _File:
    """Kept compressed, which is a quarter of its size."""

    compressed: bytes
    kind: str
    etag: str

    def answer(self, request: Request) -> Response:
        headers = {
            "Cache-Control": "no-cache",  # asked for again each time, since an upgrade changes the files
            "Content-Security-Policy": _POLICY,
            "ETag": self.etag,
            "Vary": "Accept-Encoding",
        }
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(self.compressed, media_type=self.kind, headers=headers)
        return Response(gzip.decompress(self.compressed), media_type=self.kind, headers=headers)


@functools.cache  # only an agent whose page is opened reads it
def _read(path: Path) -> _File:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return _File(gzip.compress(content, mtime=0), _TYPES[path.suffix], etag)
