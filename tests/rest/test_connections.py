"""Connections of the real server: deadlines, how many may be open, and each address's share."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from typing import TYPE_CHECKING

import anyio
import pytest
from agents.site import CHUNKED, GET, MAX_BYTES, OTHER, STALLED, UPLOAD, site, until

from agent.rest.connection import MAX_HEAD_BYTES

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of the service."""
    return "asyncio", {"use_uvloop": True}


@pytest.mark.anyio
async def test_connection_that_sends_nothing_is_closed_without_an_answer() -> None:
    async with site(header_timeout_s=0.4) as server:
        begun_s = time.monotonic()
        silent = [await server.connect() for _ in range(20)]
        assert await asyncio.gather(*(each.end() for each in silent)) == [b""] * 20
        assert time.monotonic() - begun_s >= 0.3


@pytest.mark.anyio
@pytest.mark.parametrize("before", [b"", GET], ids=["new", "answered"])
async def test_dripped_head_is_refused_however_much_of_it_has_arrived(before: bytes) -> None:
    async with site(header_timeout_s=0.4) as server:
        client = await server.connect()
        if before:
            await client.ask(before)
        dripping = asyncio.create_task(client.drip(b"GET /healthz HTTP/1.1\r\nX: "))
        assert await client.answer() == (
            408,
            {"error": "The head of the request did not arrive within 0.4 s."},
        )
        await dripping


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["predict", "batch_predict", "api/models/birds/pin"])
async def test_dripped_body_is_refused_and_counted(path: str) -> None:
    kind = "multipart/form-data; boundary=a" if path == "batch_predict" else "application/json"
    head = f"POST /{path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: 1000\r\n\r\n".encode()
    async with site(body_timeout_s=0.4) as server:
        client = await server.connect()
        dripping = asyncio.create_task(client.drip(head))
        assert await client.answer() == (408, {"error": "The body did not arrive within 0.4 s. Send it again."})
        await dripping
        await until(lambda: server.metrics.requests)
        assert [code for _, code in server.metrics.requests] == [408]


@pytest.mark.anyio
async def test_rest_of_a_refused_body_may_not_be_dripped_either() -> None:
    async with site(body_timeout_s=0.4) as server:
        client = await server.connect()
        dripping = asyncio.create_task(
            client.drip(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
        )
        assert (await client.answer())[0] == 413
        assert await client.end() == b""
        await dripping


@pytest.mark.anyio
async def test_client_that_does_not_read_its_answer_is_disconnected() -> None:
    ended = asyncio.Event()

    async def large(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(32 << 20), "more_body": True})
        await send({"type": "http.response.body", "body": b"x"})
        ended.set()

    async with site(large, body_timeout_s=0.4) as server:
        client = await server.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(GET)
        await asyncio.wait_for(ended.wait(), 10)


@pytest.mark.anyio
async def test_requests_that_are_sent_ahead_are_bounded() -> None:
    async with site() as server:
        client = await server.connect()
        client.writer.write(GET * 1000)
        assert (await client.end()).count(b"HTTP/1.1 200 ") == 17


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sent", "codes"),
    [
        (GET + UPLOAD + b"nonsense\r\n\r\n", [b"200", b"200"]),  # what is malformed gets no answer of its own
        (GET + CHUNKED + b"zz\r\n", []),
        (CHUNKED + b"zz\r\n", [b"400"]),
        (GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + GET, [b"400"]),
        (GET[:-2] + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n" + GET, [b"200", b"200"]),
    ],
)
async def test_malformed_request_spoils_no_earlier_answer_and_leaves_no_trace_in_the_log(
    sent: bytes, codes: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async with site() as server:
        client = await server.connect()
        client.writer.write(sent)
        if b"websocket" not in sent:
            answered = await client.end()
            assert re.findall(rb"HTTP/1\.1 (\d+)", answered) == codes
        assert (await (await server.connect()).ask(GET))[0] == 200
    assert caplog.text == ""


@pytest.mark.anyio
async def test_connection_serves_requests_of_all_sizes_one_after_another() -> None:
    body = bytes(MAX_BYTES // 2)
    large = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    chunks = CHUNKED + b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"
    async with site() as server:
        client = await server.connect()
        for request in (GET, large, UPLOAD, chunks, large):
            assert (await client.ask(request))[0] == 200
        client.writer.write(UPLOAD + large + GET)  # pipelined
        assert [(await client.answer())[0] for _ in range(3)] == [200] * 3


@pytest.mark.anyio
@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", CHUNKED + b"1\r\na\r\n0\r\nX: "])
async def test_endless_head_or_trailer_is_refused(start: bytes) -> None:
    async with site() as server:
        client = await server.connect()
        client.writer.write(start)
        await asyncio.sleep(0.05)  # the rest arrives in pieces of its own
        for _ in range(4):
            client.writer.write(b"a" * MAX_HEAD_BYTES)
            await asyncio.sleep(0.05)
        got = await client.end()
        assert got.startswith(b"HTTP/1.1 431 ")


@pytest.mark.anyio
async def test_head_over_the_limit_is_refused_even_if_it_arrives_at_once() -> None:
    async with site() as server:
        client = await server.connect()
        fields = b"X: " + b"a" * MAX_HEAD_BYTES
        code, document = await client.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n")
        assert (code, document["error"].split(".")[0]) == (431, "The head of the request has more than 16384 bytes")


@pytest.mark.anyio
async def test_new_connection_replaces_the_one_that_is_idle_longest() -> None:
    async with site(max_connections=4) as server:
        busy = await server.connect()
        busy.writer.write(STALLED)
        recent, silent = await server.connect(), await server.connect(OTHER)
        await recent.ask(GET)
        await recent.ask(GET)
        extra = [await server.connect("127.0.0.3"), await server.connect("127.0.0.4")]
        assert await silent.end() == b""
        for client in (recent, *extra):
            assert (await client.ask(GET))[0] == 200
        busy.writer.write(bytes(97))
        assert (await busy.answer())[0] == 200


@pytest.mark.anyio
async def test_silent_connections_do_not_keep_others_out(caplog: pytest.LogCaptureFixture) -> None:
    async with site(max_connections=20) as server:
        healthy = await server.connect(OTHER)
        for _ in range(10):
            for _ in range(10):
                await server.connect()
            assert (await healthy.ask(UPLOAD))[0] == 200
            assert (await (await server.connect("127.0.0.3")).ask(GET))[0] == 200
    assert caplog.messages == [
        "10 HTTP connections are open from 127.0.0.1. Each new one ends the one that has been idle longest."
    ]


@pytest.mark.anyio
async def test_address_whose_connections_are_all_busy_leaves_half_to_others() -> None:
    async with site(max_connections=8) as server:
        stalled = [await server.connect() for _ in range(4)]
        for client in stalled:
            client.writer.write(STALLED)
        await until(lambda: server.metrics.now_in_flight == 4)
        assert await (await server.connect()).answer() == (
            503,
            {"error": "Too many requests are in progress. Retry later."},
        )
        assert (await (await server.connect(OTHER)).ask(UPLOAD))[0] == 200
        for client in stalled:
            client.writer.write(bytes(97))
        assert [(await client.answer())[0] for client in stalled] == [200] * 4


@pytest.mark.anyio
async def test_trusted_proxy_may_use_all_connections() -> None:
    async with site(max_connections=8, trusted_proxies=["127.0.0.0/31"]) as server:
        stalled = [await server.connect() for _ in range(8)]
        for client in stalled:
            client.writer.write(STALLED)
        await until(lambda: server.metrics.now_in_flight == 8)
        for client in stalled:
            client.writer.write(bytes(97))
        assert [(await client.answer())[0] for client in stalled] == [200] * 8


@pytest.mark.anyio
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
async def test_ipv4_proxy_is_trusted_on_a_socket_for_both_protocols() -> None:
    clients: list[object] = []

    async def record(scope: Scope, _: Receive, send: Send) -> None:
        clients.append(scope["client"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    request = GET.replace(b"Host", b"X-Forwarded-For: 192.0.2.7\r\nHost")
    async with site(record, host="::", trusted_proxies=["127.0.0.1"]) as server:
        await (await server.connect()).ask(request)
        other = await server.connect(OTHER)
        await other.ask(request)
        assert clients == [("192.0.2.7", 0), other.writer.get_extra_info("sockname")[:2]]


@pytest.mark.anyio
async def test_address_with_many_bodies_leaves_memory_to_others() -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MAX_BYTES
    async with site() as server:
        slow = [await server.connect() for _ in range(6)]
        for client in slow:
            client.writer.write(head + bytes(MAX_BYTES - 1))
            await client.writer.drain()
        greedy, upload = await server.connect(), UPLOAD.replace(b"3", b"1000") + bytes(997)
        with anyio.fail_after(10):
            while (answer := await greedy.ask(upload))[0] == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # until the server has read all six
        assert answer == (503, {"error": "Too many uploads are arriving at the same time. Retry later."})
        assert (await (await server.connect(OTHER)).ask(upload))[0] == 200
        assert [(await client.ask(b"x"))[0] for client in slow] == [200] * 6
        assert (await greedy.ask(upload))[0] == 200
