"""HTTPS: the real server with real certificates; clients with and without one, hostile handshakes, replaced files."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from agents.fake_agent import FakeMetrics, FakeModels, birds, rest_app
from agents.site import CHUNKED, GET, MAX_BYTES, OTHER, STALLED, UPLOAD, Site, site, until
from peers.certificates import Authority, Certificate

from agent.rest.connection import MAX_HEAD_BYTES
from agent.security.access import AccessRules
from agent.security.self_signed import make_certificate
from agent.security.server_tls import ServerFiles, ServerTls
from agent.security.tokens import TokensFile, create_token

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.anyio
_STATUS = b"GET /v1/models/birds HTTP/1.1\r\nHost: a\r\n\r\n"
_UNPIN = (
    b"POST /api/models/birds/unpin HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of the service."""
    return "asyncio", {"use_uvloop": True}


class Pki:
    """The authority of the server, and one of its clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers, self.clients = Authority(folder, "servers"), Authority(folder, "clients")
        self.server = self.servers.sign("server")
        self.failures: list[str] = []

    def tls(self, *, mutual: bool = False) -> ServerTls:
        client_ca = self.clients.ca_file if mutual else None
        files = ServerFiles(self.server.cert_file, self.server.key_file, client_ca)
        return ServerTls(files, on_refused=lambda: self.failures.append("certificate"))

    def client(self, certificate: Certificate | None = None) -> ssl.SSLContext:
        """A client that verifies the server."""
        context = ssl.create_default_context(cafile=str(self.servers.ca_file))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as before Python 3.13; the tests' certificates are simple
        if certificate is not None:
            context.load_cert_chain(certificate.cert_file, certificate.key_file)
        return context


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def guarded(folder: Path, metrics: FakeMetrics | None = None) -> ASGIApp:
    """Takes a token or a client certificate."""
    tokens = TokensFile(folder / "tokens", is_required=False)
    rules = AccessRules(tokens=tokens, is_local=False, has_certificates=True)
    return rest_app(FakeModels(birds()), access=rules, metrics=metrics)


async def test_requests_of_all_kinds_are_answered(pki: Pki) -> None:
    body = bytes(MAX_BYTES // 2)
    large = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with site(tls=pki.tls()) as server:
        client = await server.connect(tls=pki.client())
        for request in (GET, large, UPLOAD, CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"):
            assert (await client.ask(request))[0] == 200
        client.writer.write(UPLOAD + large + GET)  # pipelined
        assert [(await client.answer())[0] for _ in range(3)] == [200] * 3


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_ciphers_have_forward_secrecy_and_authenticated_encryption(pki: Pki, version: ssl.TLSVersion) -> None:
    context = pki.client()
    context.minimum_version = context.maximum_version = version
    async with site(tls=pki.tls()) as server:
        client = await server.connect(tls=context)
        name, _, bits = client.writer.get_extra_info("cipher")
        assert "GCM" in name or "CHACHA20" in name
        assert bits >= 128


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_old_tls_is_refused_with_an_alert(pki: Pki) -> None:
    context = pki.client()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    async with site(tls=pki.tls()) as server:
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await server.connect(tls=context)


async def test_weak_ciphers_are_refused_with_an_alert(pki: Pki) -> None:
    context = pki.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-SHA")
    async with site(tls=pki.tls()) as server:
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            await server.connect(tls=context)


async def test_plain_http_gets_a_sentence_and_the_end(pki: Pki) -> None:
    async with site(tls=pki.tls(), header_timeout_s=3) as server:
        client = await server.connect()
        assert await client.ask(GET) == (
            400,
            {"error": "This port takes HTTPS only. Use an address that starts with https://."},
        )
        client.writer.write(GET * 1000)
        assert await client.end() == b""


async def test_garbage_instead_of_a_handshake_ends_the_connection(pki: Pki) -> None:
    async with site(tls=pki.tls(), header_timeout_s=0.4) as server:
        clients = []
        for garbage in (b"SSH-2.0-x\r\n", b"\x16\x03\x01\xff\xff" + bytes(500), bytes(5000), b"\x16"):
            clients.append(await server.connect())
            clients[-1].writer.write(garbage)
        await asyncio.gather(*(client.end() for client in clients))
        assert (await (await server.connect(tls=pki.client())).ask(GET))[0] == 200


# Clients and their certificates


async def test_client_with_a_certificate_may_do_everything_without_a_token(pki: Pki) -> None:
    context = pki.client(pki.clients.sign("phone"))
    async with site(guarded(pki.folder), tls=pki.tls(mutual=True)) as server:
        client = await server.connect(tls=context)
        for request in (GET, _STATUS, _UNPIN, UPLOAD, _UNPIN):
            assert (await client.ask(request))[0] == 200


async def test_client_without_a_certificate_needs_a_token(pki: Pki) -> None:
    metrics = FakeMetrics()
    async with site(guarded(pki.folder, metrics), tls=pki.tls(mutual=True)) as server:
        client = await server.connect(tls=pki.client())
        assert (await client.ask(GET))[0] == 200
        code, answer = await client.ask(_STATUS)
        assert (code, metrics.failures) == (401, ["missing"])
        assert answer["error"].startswith("An access token or, over HTTPS, a client certificate is required.")
        token = create_token(pki.folder / "tokens", "phone", "read").encode()
        with_token = _STATUS.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
        assert (await client.ask(with_token))[0] == 200
        assert (await client.ask(_UNPIN))[0] == 401


def expired(pki: Pki) -> Certificate:
    return pki.clients.sign("old", age_days=2)


def not_yet_valid(pki: Pki) -> Certificate:
    return pki.clients.sign("early", age_days=-2)


def of_another_authority(pki: Pki) -> Certificate:
    return Authority(pki.folder, "strangers").sign("stranger")


def of_an_authority_with_the_same_name(pki: Pki) -> Certificate:
    (pki.folder / "twin").mkdir()
    return Authority(pki.folder / "twin", "clients").sign("stranger")


def of_the_server(pki: Pki) -> Certificate:
    return pki.server


def signed_by_a_client(pki: Pki) -> Certificate:
    return pki.clients.sign("phone").sign("child")


def self_signed(pki: Pki) -> Certificate:
    made = make_certificate(["phone"], days=1)
    files = Certificate(pki.clients.ca_file, pki.folder / "self.crt", pki.folder / "self.key")
    files.cert_file.write_bytes(made.certificate)
    files.key_file.write_bytes(made.key)
    return files


_WRONG = (
    expired,
    not_yet_valid,
    of_another_authority,
    of_an_authority_with_the_same_name,
    of_the_server,
    signed_by_a_client,
    self_signed,
)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_with_a_wrong_certificate_is_refused_with_an_alert_and_counted(
    pki: Pki, version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(guarded(pki.folder), tls=pki.tls(mutual=True)) as server:
        for certificate in _WRONG:
            context = pki.client(certificate(pki))
            context.maximum_version = version
            for address in ("127.0.0.1", "127.0.0.2"):
                with pytest.raises(ssl.SSLError, match="ALERT"):  # TLS 1.3: the client learns it after asking
                    await (await server.connect(address, tls=context)).ask(_STATUS)
    assert pki.failures == ["certificate"] * 2 * len(_WRONG)
    first, second = caplog.messages  # strangers must not fill the log
    assert "HTTPS refused the certificate of a client at 127.0.0.1: " in first
    assert "at 127.0.0.2: " in second


def tomorrow() -> float:
    return time.time_ns() / 1e9 + 24 * 3600


async def test_certificate_that_expires_during_a_connection_counts_no_longer(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(guarded(pki.folder), tls=pki.tls(mutual=True)) as server:
        client = await server.connect(tls=pki.client(pki.clients.sign("phone")))
        assert (await client.ask(_STATUS))[0] == 200
        monkeypatch.setattr(time, "time", tomorrow)
        assert (await client.ask(_STATUS))[0] == 401


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_resumed_session_has_the_rights_of_its_certificate_and_no_others(
    pki: Pki, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = [pki.clients.sign("phone"), None]
    async with site(guarded(pki.folder), tls=pki.tls(mutual=True)) as server:
        for certificate in certificates:
            context = pki.client(certificate)
            context.maximum_version = version
            code, session, _ = await asyncio.to_thread(ask_once, server.port, context, None)
            again, _, is_resumed = await asyncio.to_thread(ask_once, server.port, context, session)
            assert (code, again, is_resumed) == ((200, 200, True) if certificate else (401, 401, True))
            with monkeypatch.context() as later:
                later.setattr(time, "time", tomorrow)
                assert (await asyncio.to_thread(ask_once, server.port, context, session))[0] == 401


def ask_once(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[int, Any, bool | None]:
    """The status code, the session to resume, and whether it was resumed. asyncio does not let clients do that."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection,
    ):
        connection.sendall(_STATUS)
        return int(connection.recv(1 << 16).split()[1]), connection.session, connection.session_reused


# Limits


@pytest.mark.parametrize("started", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], ids=["silent", "begun"])
async def test_connection_that_does_not_complete_its_handshake_is_closed(pki: Pki, started: bytes) -> None:
    async with site(tls=pki.tls(), header_timeout_s=0.4) as server:
        begun_s = time.monotonic()
        clients = [await server.connect() for _ in range(20)]
        for client in clients:
            client.writer.write(started)
        assert await asyncio.gather(*(each.end() for each in clients)) == [b""] * 20
        assert 0.3 <= time.monotonic() - begun_s < 5


async def test_time_for_the_head_counts_from_the_start_of_the_handshake(pki: Pki) -> None:
    hello, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = pki.client().wrap_bio(hello, sent, server_hostname="127.0.0.1")
    async with site(tls=pki.tls(), header_timeout_s=1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.closing(writer):
            begun_s = time.monotonic()
            with pytest.raises(ssl.SSLWantReadError):
                handshake.do_handshake()
            await asyncio.sleep(0.7)
            writer.write(sent.read())
            hello.write(await reader.read(1 << 16))
            handshake.do_handshake()
            writer.write(sent.read())
            await asyncio.wait_for(reader.read(), 10)
            assert time.monotonic() - begun_s < 2.4  # with the second that it waits for the client's close_notify


async def test_dripped_requests_over_tls_are_refused_with_an_answer(pki: Pki) -> None:
    async with site(tls=pki.tls(), header_timeout_s=0.4, body_timeout_s=0.4) as server:
        for head in (b"GET / HTTP/1.1\r\nX: ", b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"):
            client = await server.connect(tls=pki.client())
            dripping = asyncio.create_task(client.drip(head))
            assert (await client.answer())[0] == 408
            await dripping


async def test_client_that_still_sends_gets_the_answer_to_a_refused_request(pki: Pki) -> None:
    large = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"
    async with site(tls=pki.tls()) as server:
        for request, code in ((b"GET /" + b"a" * MAX_HEAD_BYTES, 431), (large, 413)):
            client = await server.connect(tls=pki.client())
            client.writer.write(request + bytes(500_000))
            assert (await client.answer())[0] == code


async def test_client_that_does_not_read_its_answer_is_disconnected(pki: Pki) -> None:
    ended = asyncio.Event()

    async def large(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(32 << 20), "more_body": True})
        await send({"type": "http.response.body", "body": b"x"})
        ended.set()

    async with site(large, tls=pki.tls(), body_timeout_s=0.4) as server:
        client = await server.connect(tls=pki.client())
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(GET)
        await asyncio.wait_for(ended.wait(), 10)


async def test_silent_and_dripping_connections_keep_nobody_out(pki: Pki) -> None:
    """As many times the limit as 1,000 connections are."""
    async with site(tls=pki.tls(), max_connections=20, header_timeout_s=1) as server:
        healthy = await server.connect(OTHER, tls=pki.client())
        silent = [await server.connect() for _ in range(40)]
        dripping = [asyncio.create_task((await server.connect("127.0.0.3")).drip(b"\x16\x03\x01")) for _ in range(8)]
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < 1.5:
            assert (await healthy.ask(UPLOAD))[0] == 200
            assert (await (await server.connect(OTHER, tls=pki.client())).ask(GET))[0] == 200
        assert await asyncio.gather(*(each.end() for each in silent)) == [b""] * 40
        await asyncio.wait_for(asyncio.gather(*dripping), 10)


async def test_connections_before_the_handshake_count_for_the_limit(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    async with site(tls=pki.tls(), max_connections=8) as server:
        silent = [await server.connect() for _ in range(5)]
        assert await silent[0].end() == b""
        stalled = [await server.connect(tls=pki.client()) for _ in range(4)]
        for client in stalled:
            client.writer.write(STALLED)
        await until(lambda: server.metrics.now_in_flight == 4)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await server.connect(tls=pki.client())
        assert (await (await server.connect(OTHER, tls=pki.client())).ask(GET))[0] == 200
        for client in stalled:
            client.writer.write(bytes(97))
        assert [(await client.answer())[0] for client in stalled] == [200] * 4
    assert len(caplog.messages) == 1


async def test_stop_does_not_wait_for_unfinished_handshakes(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    async with site(tls=pki.tls()) as server:
        silent = [await server.connect() for _ in range(3)]
        secured = await server.connect(tls=pki.client())
        await secured.ask(GET)
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < 1.9
    assert not caplog.messages
    assert await asyncio.gather(*(each.end() for each in (*silent, secured))) == [b""] * 4


# Files that change


def swap(file: Path, by: Path) -> None:
    """As ACME clients do."""
    aside = file.with_suffix(".new")
    aside.write_bytes(by.read_bytes())
    aside.replace(file)


async def names(server: Site, pki: Pki) -> str:
    client = await server.connect(tls=pki.client())
    certificate = client.writer.get_extra_info("peercert")
    client.writer.close()
    return str(certificate["subject"][0][0][1])


@pytest.mark.parametrize("first", ["cert_file", "key_file"])
async def test_new_pair_is_used_once_both_files_are_there(
    pki: Pki, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tls, new = pki.tls(), pki.servers.sign("new")
    second = "key_file" if first == "cert_file" else "cert_file"
    async with site(tls=tls) as server:
        before = await server.connect(tls=pki.client())
        swap(getattr(pki.server, first), getattr(new, first))
        for _ in range(3):
            tls.follow_files()
        assert await names(server, pki) == "server"
        assert len(caplog.messages) == 1
        assert caplog.messages[0] == (
            f"http.tls_key {pki.server.key_file} is not the key of http.tls_cert {pki.server.cert_file}. Give a "
            "certificate and its own key. HTTPS keeps the certificate that it has, and looks at the files again."
        )
        swap(getattr(pki.server, second), getattr(new, second))
        tls.follow_files()
        assert await names(server, pki) == "new"
        assert caplog.messages[1:] == [f"HTTPS uses the changed files: {pki.server.cert_file}, {pki.server.key_file}."]
        assert (await before.ask(GET))[0] == 200


async def test_half_written_or_missing_file_never_ends_the_service(pki: Pki) -> None:
    tls = pki.tls()
    async with site(tls=tls) as server:
        for file in (pki.server.cert_file, pki.server.key_file):
            whole = file.read_bytes()
            for kept in (whole[:0], whole[:30], whole[:200], None, whole):
                if kept is None:
                    file.unlink()
                else:
                    file.write_bytes(kept)
                tls.follow_files()
                assert await names(server, pki) == "server"


async def test_server_that_starts_without_a_usable_certificate_waits_for_it(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    key = pki.server.key_file.read_bytes()
    pki.server.key_file.unlink()
    async with site(tls=pki.tls()) as server:
        assert caplog.messages[0] == (
            f"http.tls_key {pki.server.key_file} cannot be read: No such file or directory. HTTPS refuses every client "
            "until this is fixed. Cameras and MQTT are not affected."
        )
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            await server.connect(tls=pki.client())
        assert (await (await server.connect()).ask(GET))[0] == 400  # never without TLS
        pki.server.key_file.write_bytes(key)
        with anyio.fail_after(10):
            while True:
                with contextlib.suppress(ssl.SSLError):
                    await names(server, pki)
                    break
                await asyncio.sleep(0.05)  # until the server looks at the files again


async def test_no_request_fails_while_the_certificate_is_replaced(pki: Pki) -> None:
    tls, pairs = pki.tls(), [pki.servers.sign(f"pair-{number}") for number in range(2)]
    codes, is_over = [], asyncio.Event()

    async def ask(server: Site, *, each_new: bool) -> None:
        client = await server.connect(tls=pki.client())
        while not is_over.is_set():
            if each_new:
                client.writer.close()
                client = await server.connect(tls=pki.client())
            codes.append((await client.ask(UPLOAD))[0])

    async with site(tls=tls) as server, anyio.create_task_group() as tasks:
        for each_new in (True, False):
            tasks.start_soon(partial(ask, server, each_new=each_new))
        for number in range(20):
            pair = pairs[number % 2]
            for file in ("cert_file", "key_file") if number % 3 else ("key_file", "cert_file"):
                swap(getattr(pki.server, file), getattr(pair, file))
                tls.follow_files()
                await asyncio.sleep(0.01)
        is_over.set()
    assert set(codes) == {200}
    assert len(codes) > 20


async def test_client_of_a_former_authority_is_refused_once_the_authority_is_replaced(pki: Pki) -> None:
    tls, context = pki.tls(mutual=True), pki.client(pki.clients.sign("phone"))
    async with site(guarded(pki.folder), tls=tls) as server:
        code, session, _ = await asyncio.to_thread(ask_once, server.port, context, None)
        assert code == 200
        swap(pki.clients.ca_file, Authority(pki.folder, "others").ca_file)
        tls.follow_files()
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(ask_once, server.port, context, session)
