"""GET /api/status and /api/live on the real server."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest
from agents.fake_agent import FakeModels, FakeOverview, rest_app
from agents.guarded import Guarded, bearer
from agents.site import site, until

from agent.security.tokens import revoke_token

if TYPE_CHECKING:
    from pathlib import Path

    from agents.site import Client

LIVE = b"GET /api/live HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of the service."""
    return "asyncio", {"use_uvloop": True}


async def event_of(client: Client) -> tuple[str, object]:
    """The next event and its document."""
    while True:
        lines = (await client.until(b"\n\n")).decode().split("\r\n")[-1].split("\n")
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        if "event" in fields:
            return fields["event"], json.loads(fields["data"])


async def watching(overview: FakeOverview) -> None:
    await until(lambda: overview.send is not None)


@pytest.mark.anyio
async def test_events_follow_the_status() -> None:
    overview = FakeOverview()
    async with site(rest_app(FakeModels(), overview=overview)) as server:
        client = await server.connect()
        head = await client.head(LIVE)
        assert "content-type: text/event-stream" in head
        assert await event_of(client) == ("status", overview.status())
        assert overview.send is not None
        overview.send("mqtt", None)
        overview.send("camera", {"name": "front"})
        assert await event_of(client) == ("mqtt", None)
        assert await event_of(client) == ("camera", {"name": "front"})


@pytest.mark.anyio
async def test_overview_is_watched_until_the_last_reader_leaves() -> None:
    overview = FakeOverview()
    async with site(rest_app(FakeModels(), overview=overview)) as server:
        first, second = await server.connect(), await server.connect()
        for client in (first, second):
            client.writer.write(LIVE)
            assert await event_of(client) == ("status", overview.status())
        first.writer.close()
        second.writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")  # waits; the stream must still end
        second.writer.close()
        await until(partial(is_unwatched_after_an_event, overview))


def is_unwatched_after_an_event(overview: FakeOverview, size: int = 1) -> bool:
    if overview.send is not None:
        overview.send("camera", {"text": size * "x"})
    return overview.send is None


@pytest.mark.anyio
async def test_reader_that_does_not_keep_up_is_dropped() -> None:
    overview = FakeOverview()
    async with site(rest_app(FakeModels(), overview=overview)) as server:
        client = await server.connect()
        client.writer.write(LIVE)
        assert await event_of(client) == ("status", overview.status())
        assert overview.send is not None
        for number in range(65):  # at once, so that none can be sent in between
            overview.send("camera", {"number": number})
        assert b"number" not in await client.until(b"0\r\n\r\n")
        await until(lambda: overview.send is None)


@pytest.mark.anyio
async def test_reader_that_reads_nothing_is_closed() -> None:
    overview = FakeOverview()
    async with site(rest_app(FakeModels(), overview=overview), body_timeout_s=0.5) as server:
        client = await server.connect()
        client.writer.write(LIVE)
        await watching(overview)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket
        await until(partial(is_unwatched_after_an_event, overview, size=200_000))


@pytest.mark.anyio
async def test_stop_ends_streams_at_once() -> None:
    overview = FakeOverview()
    async with site(rest_app(FakeModels(), overview=overview)) as server:
        client = await server.connect()
        client.writer.write(LIVE)
        await watching(overview)
        stopping = server.stopping()
        await client.end()
        assert await stopping < 1


@pytest.mark.anyio
async def test_revoked_token_ends_its_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.rest.stream._CHECK_ACCESS_S", 0.02)
    guarded = Guarded(tmp_path)
    guarded.create_tokens()
    async with site(guarded.app) as server:
        client = await server.connect()
        client.writer.write(LIVE.replace(b"Host: a", b"Host: a\r\n" + bearer(guarded.token["read"])))
        await watching(guarded.overview)
        revoke_token(guarded.file, "read")
        assert b"event: status" in await client.until(b"0\r\n\r\n")


@pytest.mark.anyio
async def test_head_is_answered_without_a_stream() -> None:
    overview = FakeOverview()
    async with site(rest_app(FakeModels(), overview=overview)) as server:
        client = await server.connect()
        assert "text/event-stream" in await client.head(LIVE.replace(b"GET", b"HEAD"))
        assert (await client.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"))[0] == 200
        assert overview.send is None


@pytest.mark.anyio
async def test_one_address_leaves_readers_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.rest.live._MAX_READERS", 12)
    overview = FakeOverview()
    async with site(rest_app(FakeModels(), overview=overview)) as server:
        clients = [await server.connect() for _ in range(10)]
        for client in clients[:9]:
            assert "200 ok" in await client.head(LIVE)
        code, document = await clients[9].ask(LIVE)
        assert (code, document) == (503, {"error": "Too many pages show this agent. Close some of them."})
        assert "200 ok" in await (await server.connect("127.0.0.2")).head(LIVE)


@pytest.mark.anyio
async def test_status_is_one_document() -> None:
    overview = FakeOverview()
    async with site(rest_app(FakeModels(), overview=overview)) as server:
        answer = await (await server.connect()).ask(b"GET /api/status HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer == (200, overview.status())
