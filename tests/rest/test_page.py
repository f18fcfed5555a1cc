"""The files of the page: what is served, to whom, and how large it is."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI

import agent.rest.page.routes
from agent.rest.page.routes import page_router

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_FOLDER = Path(agent.rest.page.routes.__file__).parent
_FILES = sorted(
    path.relative_to(_FOLDER).as_posix() for path in _FOLDER.rglob("*") if path.suffix in (".js", ".css", ".svg")
)


def client(*, base_path: str = "") -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(page_router(base_path=base_path))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent")


@pytest.mark.anyio
async def test_every_file_that_the_page_loads_is_served() -> None:
    async with client() as asking:
        html = (await asking.get("/")).text
        loaded = set(re.findall('(?:src|href)="page/([^"]+)"', html))
        for name in _FILES:
            text = (_FOLDER / name).read_text()
            loaded |= {
                name.removeprefix("./") for name in re.findall(r'^import .* from "(\./[^"]+)";', text, re.MULTILINE)
            }
        assert loaded == set(_FILES)
        kinds = {name: (await asking.get(f"/page/{name}")).headers["content-type"] for name in loaded}
    assert kinds["app.js"] == "text/javascript; charset=utf-8"
    assert kinds["page.css"] == "text/css; charset=utf-8"
    assert kinds["icon.svg"] == "image/svg+xml"


@pytest.mark.anyio
async def test_a_file_is_sent_again_only_when_it_has_changed() -> None:
    async with client() as asking:
        first = await asking.get("/page/app.js")
        again = await asking.get("/page/app.js", headers={"If-None-Match": first.headers["etag"]})
        other = await asking.get("/page/page.css", headers={"If-None-Match": first.headers["etag"]})
    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200


@pytest.mark.anyio
async def test_a_file_is_compressed_for_clients_that_accept_it() -> None:
    async with client() as asking:
        compressed = await asking.get("/page/app.js", headers={"Accept-Encoding": "gzip"})
        plain = await asking.get("/page/app.js", headers={"Accept-Encoding": "identity"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.content == plain.content == (_FOLDER / "app.js").read_bytes()


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["routes.py", "__init__.py", "../app.py", "..%2fapp.py", "nothing.js", "", "vendor"])
async def test_nothing_else_in_the_folder_is_served(path: str) -> None:
    async with client() as asking:
        assert (await asking.get(f"/page/{path}")).status_code == 404


@pytest.mark.anyio
async def test_below_a_base_path_the_address_gets_a_slash() -> None:
    async with client(base_path="/a/edge") as asking:
        # rest/front takes the base path off the path, not off the raw path.
        answer = await asking.get("/")
        assert answer.status_code == 200
    assert await redirected("/a/edge", base_path="/a/edge") == "./edge/"


async def redirected(raw_path: str, *, base_path: str) -> str:
    app = FastAPI()
    app.include_router(page_router(base_path=base_path))

    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "path": "/", "raw_path": raw_path.encode()}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(below), base_url="http://agent") as asking:
        answer = await asking.get(raw_path)
    assert answer.status_code == 308
    return answer.headers["location"]


@pytest.mark.anyio
async def test_the_page_allows_only_its_own_scripts_and_styles() -> None:
    async with client() as asking:
        policy = (await asking.get("/")).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_page_weighs_at_most_150_kb() -> None:
    sizes = {name: len(gzip.compress((_FOLDER / name).read_bytes())) for name in [*_FILES, "index.html"]}
    assert sum(sizes.values()) <= 150_000, sizes
