"""Signing in with a token, and what the cookie of the session allows: the real application on a real socket."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest
from agents.fake_agent import OPEN, FakeModels, rest_app
from agents.guarded import Answer, Guarded, bearer
from agents.site import site
from peers.web_server import serving

from agent.rest.connection import CERTIFICATE_UNTIL_S
from agent.rest.front import Reach
from agent.security.access import AccessRules
from agent.security.sessions import LIFETIME_S, Sessions
from agent.security.tokens import SCOPES, create_token, read_tokens, revoke_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

OWN = b"Origin: http://agent"
UNSAFE = (
    "A session cookie changes something only if the agent's own page sends the request. Other clients: send the header "
    "Authorization: Bearer TOKEN."
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path_factory.mktemp("session"))
    guarded.create_tokens()
    with serving(guarded.app) as guarded.port:
        yield guarded


def post(guarded: Guarded, body: str, *lines: bytes, path: str = "/api/session", client: str | None = None) -> Answer:
    head = [f"POST {path} HTTP/1.1".encode(), b"Host: agent", b"Connection: close", b"Content-Type: application/json"]
    return guarded.send(
        b"\r\n".join([*head, *lines, b"Content-Length: %d" % len(body), b"", body.encode()]), client=client
    )


def sign_in(guarded: Guarded, token: str) -> Answer:
    return post(guarded, json.dumps({"token": token}), OWN)


def cookie_of(answer: Answer) -> bytes:
    found = re.search("^set-cookie: (edge_agent_session=[^;]+)", answer.head, re.MULTILINE | re.IGNORECASE)
    assert found is not None, answer.head
    return b"Cookie: " + found[1].encode()


def scope_of(guarded: Guarded, *lines: bytes) -> object:
    return json.loads(guarded.ask("GET", "/api/session", *lines).body)


@pytest.mark.parametrize("scope", SCOPES)
def test_session_allows_what_its_token_allows(guarded: Guarded, scope: str) -> None:
    answer = sign_in(guarded, guarded.token[scope])
    assert (answer.code, json.loads(answer.body)) == (200, {"needs_token": True, "scope": scope})
    cookie = cookie_of(answer)
    assert scope_of(guarded, cookie) == {"needs_token": True, "scope": scope}
    for method, path, needed in guarded.routes():
        if needed is not None and "{" not in path:
            code = guarded.ask(method, path, cookie, OWN).code
            if SCOPES.index(needed) <= SCOPES.index(scope):
                assert code not in (401, 403), path
            else:
                assert code == 403, path
    change = guarded.ask("POST", "/api/models/birds/unpin", cookie, OWN)
    assert change.code == (200 if scope == "admin" else 403)


def test_stranger_learns_only_that_a_token_is_needed(guarded: Guarded) -> None:
    assert scope_of(guarded) == {"needs_token": True, "scope": None}


def test_cookie_is_for_this_agent_only_and_not_for_scripts(guarded: Guarded) -> None:
    head = sign_in(guarded, guarded.token["read"]).head.lower()
    attributes = re.search("^set-cookie: [^;]*; (.*?)\r?$", head, re.MULTILINE)
    assert attributes is not None
    assert set(attributes[1].split("; ")) == {"httponly", f"max-age={LIFETIME_S}", "path=/", "samesite=strict"}


def test_cookie_is_secure_under_tls_and_for_the_base_path(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, reach=Reach(base_path="/edge"))
    guarded.create_tokens()

    async def encrypted(scope: Scope, receive: Receive, send: Send) -> None:
        await guarded.app({**scope, "scheme": "https"}, receive, send)

    with serving(encrypted) as guarded.port:
        head = sign_in(guarded, guarded.token["read"]).head.lower()
    assert "; path=/edge;" in head
    assert "; secure" in head


def test_wrong_token_is_refused_counted_and_slowed_down(guarded: Guarded) -> None:
    answers, seconds = [], []
    before = len(guarded.metrics.failures)
    for _ in range(4):
        begun_s = time.monotonic()
        answers.append(post(guarded, '{"token": "edge_wrong"}', OWN, client="127.8.8.1"))
        seconds.append(time.monotonic() - begun_s)
    assert {(answer.code, answer.sentence) for answer in answers} == {
        (401, "The access token is unknown or was revoked. Use another one.")
    }
    assert "set-cookie" not in answers[0].head.lower()
    assert seconds[3] > 0.2
    assert guarded.metrics.failures[before:] == ["unknown"] * 4


@pytest.mark.parametrize("body", ["{}", '{"token": 3}', '{"token": "x", "scope": "admin"}', "[]", "x"])
def test_malformed_sign_in_is_refused(guarded: Guarded, body: str) -> None:
    assert post(guarded, body, OWN).code == 400


def test_sign_in_from_a_foreign_page_is_refused(guarded: Guarded) -> None:
    body = json.dumps({"token": guarded.token["read"]})
    assert post(guarded, body, b"Origin: http://evil.example").code == 403


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        ((), 403),
        ((b"Origin: null",), 403),
        ((b"Origin: http://evil.example",), 403),
        ((b"Origin: http://agent:8080",), 403),
        ((OWN, b"Sec-Fetch-Site: same-site"), 403),
        ((OWN, b"Sec-Fetch-Site: same-origin"), 200),
        ((OWN,), 200),
    ],
)
def test_cookie_changes_something_only_from_the_own_page(
    guarded: Guarded, origin: tuple[bytes, ...], code: int
) -> None:
    cookie = cookie_of(sign_in(guarded, guarded.token["admin"]))
    asked = len(guarded.models.asked)
    answer = guarded.ask("POST", "/api/models/birds/unpin", cookie, *origin)
    assert answer.code == code
    assert len(guarded.models.asked) == asked + (code == 200)
    if not origin:
        assert answer.sentence == UNSAFE


def test_page_of_a_listed_origin_may_not_use_the_cookie(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, reach=Reach(cors=("http://shop.example",)))
    guarded.create_tokens()
    with serving(guarded.app) as guarded.port:
        cookie = cookie_of(sign_in(guarded, guarded.token["admin"]))
        answer = guarded.ask("POST", "/api/models/birds/unpin", cookie, b"Origin: http://shop.example")
        assert (answer.code, answer.sentence) == (403, UNSAFE)


def test_token_in_the_header_counts_and_not_the_cookie(guarded: Guarded) -> None:
    cookie = cookie_of(sign_in(guarded, guarded.token["admin"]))
    assert guarded.ask("GET", "/metrics", cookie, bearer("wrong")).code == 401
    assert guarded.ask("POST", "/api/models/birds/unpin", cookie, bearer(guarded.token["read"]), OWN).code == 403
    assert guarded.ask("POST", "/api/models/birds/unpin", cookie, bearer(guarded.token["admin"])).code == 200


def test_forged_cookie_is_counted_as_a_wrong_token(guarded: Guarded) -> None:
    before = len(guarded.metrics.failures)
    answer = guarded.ask("GET", "/metrics", b"Cookie: edge_agent_session=x")
    assert (answer.code, answer.sentence) == (401, "The session cookie is not valid. Sign in again.")
    assert guarded.metrics.failures[before:] == ["unknown"]


def test_session_ends_when_its_token_is_revoked_or_its_time_is_over(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    guarded.create_tokens()
    create_token(guarded.file, "phone", "read")
    phone = next(token for token in read_tokens(guarded.file) if token.name == "phone")
    old = Sessions(tmp_path / "session_key", clock=lambda: time.time() - LIFETIME_S - 1).begin(phone)
    with serving(guarded.app) as guarded.port:
        cookie = cookie_of(sign_in(guarded, guarded.token["read"]))
        assert guarded.ask("GET", "/metrics", cookie).code == 200
        revoke_token(guarded.file, "read")
        for ended in (cookie, f"Cookie: edge_agent_session={old}".encode()):
            answer = guarded.ask("GET", "/metrics", ended)
            assert (answer.code, answer.sentence) == (
                *(401, "The session has ended, or its access token was revoked. Sign in again."),
            )
    assert guarded.metrics.failures == ["ended", "ended"]


def test_sign_out_ends_the_session(guarded: Guarded) -> None:
    cookie = cookie_of(sign_in(guarded, guarded.token["read"]))
    answer = guarded.ask("DELETE", "/api/session", cookie, OWN)
    assert (answer.code, json.loads(answer.body)) == (200, {"needs_token": True, "scope": None})
    assert "max-age=0" in answer.head.lower()
    assert guarded.ask("GET", "/metrics", cookie).code == 401


def test_nothing_to_sign_in_to_while_everyone_may_do_everything() -> None:
    guarded = Guarded.__new__(Guarded)
    with serving(rest_app(FakeModels(), access=OPEN)) as guarded.port:
        assert scope_of(guarded) == {"needs_token": False, "scope": "admin"}
        answer = sign_in(guarded, "anything")
    assert json.loads(answer.body) == {"needs_token": False, "scope": "admin"}
    assert "set-cookie" not in answer.head.lower()


def test_agent_without_tokens_says_how_to_make_one(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    with serving(guarded.app) as guarded.port:
        answer = sign_in(guarded, "anything")
    assert answer.code == 401
    assert "This agent has no access tokens yet" in answer.sentence


def test_client_with_a_certificate_needs_no_session(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    guarded.create_tokens()
    guarded.rules = AccessRules(guarded.rules.tokens, is_local=False, has_certificates=True)
    app = rest_app(guarded.models, access=guarded.rules)

    async def with_certificate(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, CERTIFICATE_UNTIL_S: time.time() + 60}, receive, send)

    with serving(with_certificate) as guarded.port:
        assert scope_of(guarded) == {"needs_token": True, "scope": "admin"}
        assert guarded.ask("POST", "/api/models/birds/unpin").code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_stream_ends_with_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: object
) -> None:
    monkeypatch.setattr("agent.rest.stream._CHECK_ACCESS_S", 0.02)
    guarded = Guarded(tmp_path)
    guarded.create_tokens()
    token = next(token for token in read_tokens(guarded.file) if token.name == "read")
    assert guarded.rules.sessions is not None
    cookie = guarded.rules.sessions.begin(token)
    async with site(guarded.app) as server:
        client = await server.connect()
        client.writer.write(
            f"GET /api/live HTTP/1.1\r\nHost: a\r\nCookie: edge_agent_session={cookie}\r\n\r\n".encode()
        )
        await client.until(b"event: status")
        guarded.rules.sessions.end(cookie)
        await client.until(b"0\r\n\r\n")
