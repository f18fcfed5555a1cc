"""Bodies that the kernel writes into the application's memory, over real sockets."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest
from agents.site import CHUNKED, Client, site, until
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from agent.errors import BusyError
from agent.rest.body import BODY
from agent.rest.upload import UploadReader

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MAX_BYTES = 1 << 20


class Digesting:
    """An ASGI application that answers with the hash of the upload; `/refused` does not read it."""

    def __init__(self, *, together: int = 8 * MAX_BYTES) -> None:
        self.uploads = UploadReader(max_bytes=MAX_BYTES, max_bytes_together=together, per_client=1)
        self.read_directly: list[bool] = []
        self.gone = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.read_directly.append(BODY in scope)
        answer = await self._answer(scope["path"], Request(scope, receive))
        await answer(scope, receive, send)

    async def _answer(self, path: str, request: Request) -> JSONResponse:
        if path == "/refused":
            return JSONResponse({}, 400)
        try:
            return JSONResponse(digest(await self.uploads.read_image(request)))
        except HTTPException as error:
            return JSONResponse({}, error.status_code)
        except BusyError:
            return JSONResponse({}, 503)
        except ClientDisconnect:
            self.gone += 1
            return JSONResponse({}, 499)


def digest(content: bytes | bytearray) -> str:
    return hashlib.sha256(content).hexdigest()


def head(length: int, path: str = "/predict", *fields: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {length}", *fields, "", "")
    return "\r\n".join(lines).encode()


def content(length: int) -> bytes:
    return random.Random(length).randbytes(length)


async def send_in_pieces(client: Client, request: bytes, sizes: tuple[int, ...]) -> None:
    at = 0
    while at < len(request):
        size = sizes[at % len(sizes)]
        client.writer.write(request[at : at + size])
        await client.writer.drain()
        at += size


@pytest.mark.anyio
@pytest.mark.parametrize("length", [1, 16_000, 16_385, 65_535, 65_536, 65_537, 300_000, 600_000, MAX_BYTES])
async def test_body_arrives_complete_again_and_again(length: int) -> None:
    app = Digesting()
    async with site(app) as server:
        client, other = await server.connect(), await server.connect()
        for each in (client, other, client):
            body = content(length)
            await send_in_pieces(each, head(length) + body, (100, 20_000, 150_001))
            assert await each.answer() == (200, digest(body))
    assert app.read_directly == [True] * 3


@pytest.mark.anyio
async def test_requests_in_one_packet_get_their_own_bodies() -> None:
    bodies = [content(length) for length in (200_000, 3, 70_000, 1)]
    async with site(Digesting()) as server:
        client = await server.connect()
        client.writer.write(b"".join(head(len(body)) + body for body in bodies))
        assert [await client.answer() for _ in bodies] == [(200, digest(body)) for body in bodies]


@pytest.mark.anyio
async def test_chunked_body_is_read_by_the_parser() -> None:
    app, body = Digesting(), content(200_000)
    async with site(app) as server:
        client = await server.connect()
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        assert await client.ask(CHUNKED + chunked) == (200, digest(body))
        assert await client.ask(head(3) + b"abc") == (200, digest(b"abc"))
    assert app.read_directly == [False, True]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/refused", "/predict"])
async def test_body_that_is_refused_is_skipped(path: str) -> None:
    """Of /predict, it is refused when it should get more memory."""
    app = Digesting(together=300_000)
    app.uploads._arrived.take("", 200_000)
    async with site(app) as server:
        client = await server.connect()
        code, _ = await client.ask(head(400_000, path) + content(400_000))
        assert code == (400 if path == "/refused" else 503)
        assert await client.ask(head(3) + b"abc") == (200, digest(b"abc"))
    assert app.uploads._arrived.free == 100_000


@pytest.mark.anyio
async def test_client_that_asks_whether_to_send_the_body_is_told_to() -> None:
    body = content(100_000)
    async with site(Digesting()) as server:
        client = await server.connect()
        client.writer.write(head(len(body), "/predict", "Expect: 100-continue"))
        assert await client._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await client.ask(body) == (200, digest(body))


@pytest.mark.anyio
async def test_client_that_leaves_gives_its_memory_back() -> None:
    app = Digesting()
    async with site(app) as server:
        client = await server.connect()
        client.writer.write(head(400_000) + content(300_000))
        await until(lambda: app.uploads._arrived.free < 8 * MAX_BYTES - 70_000)
        client.writer.close()
        await until(lambda: app.gone == 1)
    assert app.uploads._arrived.free == 8 * MAX_BYTES


@pytest.mark.anyio
async def test_slow_client_holds_no_more_memory_than_it_sent_eight_times() -> None:
    app = Digesting()
    async with site(app) as server:
        client = await server.connect()
        client.writer.write(head(MAX_BYTES) + b"abc")
        await until(lambda: app.uploads._arrived.free < 8 * MAX_BYTES)
        assert app.uploads._arrived.free == 8 * MAX_BYTES - (64 << 10)


@pytest.mark.anyio
async def test_body_that_stops_arriving_is_refused_in_time() -> None:
    async with site(Digesting(), body_timeout_s=0.3) as server:
        client = await server.connect()
        code, document = await client.ask(head(400_000) + content(300_000))
        assert (code, document["error"].startswith("The body did not arrive within")) == (408, True)
