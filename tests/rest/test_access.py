"""Who may do what over HTTP: real connections to the whole REST application, each from another address."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from typing import TYPE_CHECKING

import pytest
from agents.fake_agent import OPEN, FakeHealth, rest_app
from agents.guarded import Guarded, bearer
from fastapi import APIRouter
from peers.web_server import serving

from agent.rest.route_scopes import RouteScopes
from agent.security.tokens import SCOPES, create_token, revoke_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_FREE = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready")}
_FREE |= {(method, "/api/session") for method in ("GET", "POST", "DELETE")}


def concrete(path: str) -> str:
    for name, value in {"name": "birds", "version": "2", "label": "stable", "camera": "front"}.items():
        path = path.replace(f"{{{name}}}", value)
    return path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Reachable from the network, with tokens."""
    guarded = Guarded(tmp_path_factory.mktemp("guarded"))
    guarded.create_tokens()
    with serving(guarded.app) as guarded.port:
        yield guarded


def basic(text: str) -> bytes:
    return b"Authorization: Basic " + base64.b64encode(text.encode())


# Each gives, for the right token, the header lines (or what follows the path) of a request that must be refused.
_WAYS: dict[str, Callable[[str], bytes]] = {
    "no token": lambda _: b"X-Nothing: 1",
    "wrong token": lambda _: bearer("edge_" + 43 * "A"),
    "empty header": lambda _: b"Authorization:",
    "scheme alone": lambda _: b"Authorization: Bearer",
    "scheme and a space": lambda _: b"Authorization: Bearer ",
    "no scheme": lambda token: b"Authorization: " + token.encode(),
    "one character less": lambda token: bearer(token[:-1]),
    "one character more": lambda token: bearer(f"{token}A"),
    "without its prefix": lambda token: bearer(token.removeprefix("edge_")),
    "upper case": lambda token: bearer(token.upper()),
    "its hash": lambda token: bearer(hashlib.sha256(token.encode()).hexdigest()),
    "its name": lambda _: bearer("admin"),
    "null": lambda _: bearer("null"),
    "asterisk": lambda _: bearer("*"),
    "quoted": lambda token: bearer(f'"{token}"'),
    "in angle brackets": lambda token: bearer(f"<{token}>"),
    "with a word behind": lambda token: bearer(f"{token} x"),
    "twice in one header": lambda token: bearer(f"{token}, Bearer {token}"),
    "with a comma": lambda token: bearer(f"{token},"),
    "as a parameter": lambda token: bearer(f"token={token}"),
    "percent-encoded": lambda token: bearer(token.replace("_", "%5F")),
    "in base64": lambda token: bearer(base64.b64encode(token.encode()).decode()),
    "not ASCII": lambda token: bearer(f"{token}\u00e9"),
    "60 kB": lambda token: bearer(token + 60_000 * "A"),
    "tab behind the scheme": lambda token: b"Authorization: Bearer\t" + token.encode(),
    "no space behind the scheme": lambda token: b"Authorization: Bearer" + token.encode(),
    "no-break space behind the scheme": lambda token: b"Authorization: Bearer\xa0" + token.encode(),
    "colon behind the scheme": lambda token: b"Authorization: Bearer: " + token.encode(),
    "scheme Token": lambda token: b"Authorization: Token " + token.encode(),
    "scheme Digest": lambda token: b"Authorization: Digest " + token.encode(),
    "Basic, as the password": lambda token: basic(f"admin:{token}"),
    "Basic, as the user": lambda token: basic(f"{token}:"),
    "wrong token, lower case scheme": lambda _: b"authorization: bearer edge_" + 43 * b"A",
    "two headers with the same token": lambda token: b"\r\n".join([bearer(token), bearer(token)]),
    "two headers, the second wrong": lambda token: b"\r\n".join([bearer(token), bearer("wrong")]),
    "two headers, the first wrong": lambda token: b"\r\n".join([bearer("wrong"), bearer(token)]),
    "header folded": lambda token: b"Authorization: Bearer\r\n " + token.encode(),
    "header Proxy-Authorization": lambda token: b"Proxy-" + bearer(token),
    "header X-Authorization": lambda token: b"X-" + bearer(token),
    "header X-Api-Key": lambda token: b"X-Api-Key: " + token.encode(),
    "cookie": lambda token: f"Cookie: token={token}; access_token={token}; Authorization=Bearer {token}".encode(),
    "query access_token": lambda token: f"?access_token={token}".encode(),
    "query token": lambda token: f"?token={token}".encode(),
    "query authorization": lambda token: f"?authorization=Bearer%20{token}".encode(),
    "claims to come from this machine": lambda _: b"X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1",
    "claims another path": lambda _: b"X-Original-URL: /healthz\r\nX-Rewrite-URL: /healthz",
    "claims another method": lambda _: b"X-HTTP-Method-Override: GET",
    "claims another host": lambda _: b"X-Forwarded-Host: localhost",
}


@pytest.mark.parametrize("way", _WAYS)
def test_no_route_that_needs_a_scope_accepts(guarded: Guarded, way: str) -> None:
    asked, classified = len(guarded.models.asked), len(guarded.data_plane.options)
    accepted = []
    for method, path, scope in guarded.routes():
        lines, target = _WAYS[way](guarded.token["admin"]), concrete(path)
        if lines.startswith(b"?"):
            lines, target = b"X-Nothing: 1", target + lines.decode()
        answer = guarded.ask(method, target, lines)
        if scope is not None and answer.code not in (400, 401):  # 400: the HTTP parser refuses the header
            accepted.append((method, path, answer.code))
        assert answer.code == 200 or "birds" not in answer.body
    assert accepted == []
    assert (len(guarded.models.asked), len(guarded.data_plane.options)) == (asked, classified)


@pytest.mark.parametrize("way", ["revoked", "read", "infer"])
def test_no_route_accepts_a_token_without_its_scope(guarded: Guarded, way: str) -> None:
    rank = {"revoked": -1, "read": 0, "infer": 1}[way]
    for method, path, scope in guarded.routes():
        answer = guarded.with_token(way, method, concrete(path))
        if scope is not None and SCOPES.index(scope) > rank:
            assert answer.code == (401 if way == "revoked" else 403), path
            assert answer.sentence
        else:
            assert answer.code not in (401, 403), path


def test_a_token_in_a_file_that_was_replaced_is_refused(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    guarded.create_tokens()
    with serving(guarded.app) as guarded.port:
        assert guarded.with_token("read", "GET", "/metrics").code == 200
        guarded.file.unlink()
        create_token(guarded.file, "other", "admin")
        assert guarded.with_token("read", "GET", "/metrics").code == 401


@pytest.mark.parametrize(
    "target",
    [
        *("/predict/", "//predict", "/healthz/../metrics", "/healthz/%2e%2e/metrics", "/healthz/..%2fmetrics"),
        *("/metrics%0a", "/%6detrics", "/METRICS", "/healthz;/metrics", "/metrics?/healthz", "/metrics#/healthz"),
        *("/docs", "/docs/oauth2-redirect", "/openapi.json", "/nowhere", "/pages", "http://agent/metrics"),
        "/healthz%00",
        *("/healthz/", "/readyz/", "/HEALTHZ", "/api/models/healthz", "/api/models/..%2fhealthz"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_paths_and_methods_are_refused_without_a_token(guarded: Guarded, method: str, target: str) -> None:
    answer = guarded.ask(method, target)
    assert answer.code in (400, 401)
    assert "birds" not in answer.body


def test_the_page_is_free_because_people_sign_in_there(guarded: Guarded) -> None:
    for path in ("/", "/page/app.js"):
        assert guarded.ask("GET", path).code == 200
        assert guarded.ask("POST", path).code == 401


def test_every_scope_is_declared_where_the_route_is_defined() -> None:
    router = APIRouter()
    router.add_api_route("/new", lambda: None)
    with pytest.raises(TypeError, match=r"The route /new has no scope\. Declare it with needs\(\)\."):
        RouteScopes([router])


def test_only_the_probes_are_free_and_changes_need_admin(guarded: Guarded) -> None:
    routes = guarded.routes()
    assert len(routes) > 15
    assert {(method, path) for method, path, scope in routes if scope is None} == _FREE
    changing = {path for method, path, scope in routes if scope == "admin"}
    assert changing == {
        *(f"/api/cameras/{{camera}}/{verb}" for verb in ("enable", "disable", "reference")),
        "/api/profile",
        *(f"/api/collection{path}" for path in ("", ".zip", "/{frame}", "/{frame}.jpg")),
        *(f"/api/models/{{name}}/{verb}" for verb in ("rollback", "pin", "unpin", "promote")),
        *(f"/v2/repository/models/{{name}}/{verb}" for verb in ("load", "unload")),
    }
    inferring = {path for _, path, scope in routes if scope == "infer"}
    assert inferring == {
        *("/predict", "/predict_async", "/batch_predict"),
        *("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"),
        *(
            f"/v1/models/{{name}}{which}:{verb}"
            for which in ("", "/versions/{version}", "/labels/{label}")
            for verb in ("predict", "classify", "regress")
        ),
    }


@pytest.mark.parametrize(
    "line", [b"authorization: bearer %s", b"AUTHORIZATION: BEARER   %s", b"Authorization: Bearer %s  "]
)
def test_a_token_is_accepted_in_every_form_of_the_standard(guarded: Guarded, line: bytes) -> None:
    assert guarded.ask("GET", "/metrics", line % guarded.token["read"].encode()).code == 200


def test_a_refusal_says_what_to_do(guarded: Guarded) -> None:
    missing = guarded.ask("GET", "/metrics")
    assert missing.sentence == (
        "An access token is required. Send the header Authorization: Bearer TOKEN. On the device, sudo edge-agent "
        "token create NAME --scope read makes one."
    )
    assert re.search(r"^www-authenticate: Bearer\r?$", missing.head, re.MULTILINE)
    weak = guarded.with_token("read", "POST", "/predict")
    assert weak.sentence == "The access token read has the scope read; this needs infer."
    assert 'Bearer error="insufficient_scope", scope="infer"' in weak.head
    assert 'Bearer error="invalid_token"' in guarded.ask("GET", "/metrics", bearer("wrong")).head


def test_strangers_see_only_whether_the_agent_is_ready(guarded: Guarded) -> None:
    for lines in ([], [bearer("wrong")], [b"Authorization: Basic eA=="]):
        assert guarded.ask("GET", "/healthz", *lines).code == 200
        answer = guarded.ask("GET", "/readyz", *lines)
        assert (answer.code, json.loads(answer.body)) == (200, {"ready": True})
    assert "warnings" in json.loads(guarded.with_token("read", "GET", "/readyz").body)


def test_strangers_do_not_see_why_the_agent_is_stuck(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeHealth, "stuck", lambda _: "The camera front hangs.")
    for path in ("/healthz", "/v2/health/live"):
        answer = guarded.ask("GET", path)
        assert (answer.code, answer.sentence) == (503, "The agent must be restarted; its log says why.")
        assert guarded.with_token("read", "GET", path).sentence == "The camera front hangs."


def test_failures_are_counted_by_reason_and_requests_by_route(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    with serving(guarded.app) as guarded.port:
        guarded.ask("GET", "/metrics")
        guarded.create_tokens()
        guarded.ask("GET", "/v1/models/birds")
        guarded.ask("GET", "/readyz")  # a probe is not a failure
        guarded.ask("GET", "/metrics", bearer("wrong"))
        guarded.ask("GET", "/readyz", bearer("wrong"))
        guarded.ask("GET", "/nowhere", b"Authorization: Basic eA==")
        guarded.with_token("read", "POST", "/predict")
    assert guarded.metrics.failures == ["not_set_up", "missing", "unknown", "unknown", "malformed", "scope"]
    assert guarded.metrics.requests == [
        *(("/metrics", 401), ("/v1/models/{name}", 401), ("/readyz", 200), ("/metrics", 401)),
        *(("/readyz", 200), ("other", 401), ("/predict", 403)),
    ]


def test_wrong_tokens_of_one_address_are_slowed_down_and_right_ones_are_not(guarded: Guarded) -> None:
    def seconds(token: str, client: str) -> float:
        started_s = time.monotonic()
        guarded.ask("GET", "/metrics", bearer(token), client=client)
        return time.monotonic() - started_s

    waits = [seconds("wrong", "127.9.9.1") for _ in range(5)]
    assert max(waits[:3]) < 0.2
    assert waits[3] > 0.2
    assert waits[4] > 0.4
    assert seconds(guarded.token["read"], "127.9.9.1") < 0.2
    assert seconds("wrong", "127.9.9.2") < 0.2


def test_wrong_tokens_are_refused_at_once_when_too_many_answers_wait(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.security.access._MAX_WAITING", 0)
    answers = [guarded.ask("GET", "/metrics", bearer("wrong"), client="127.9.9.3") for _ in range(4)]
    assert [answer.code for answer in answers] == [401, 401, 401, 429]
    assert "retry-after: 1" in answers[3].head
    assert guarded.ask("GET", "/metrics", bearer(guarded.token["read"]), client="127.9.9.3").code == 200


def test_everything_is_open_on_this_machine_until_a_token_exists(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, is_local=True)
    with serving(guarded.app) as guarded.port:
        assert guarded.ask("POST", "/api/models/birds/unpin").code == 200
        assert "warnings" in guarded.ask("GET", "/readyz").body
        guarded.create_tokens()
        assert guarded.ask("GET", "/metrics").code == 401
        assert guarded.with_token("read", "GET", "/metrics").code == 200
        for name in SCOPES:
            revoke_token(guarded.file, name)
        assert guarded.ask("GET", "/metrics").code == 401
        assert guarded.with_token("read", "GET", "/metrics").code == 401
        guarded.file.unlink()
        assert guarded.ask("GET", "/metrics").code == 200


@pytest.mark.parametrize(("is_local", "is_required"), [(False, False), (True, True)])
def test_without_tokens_only_the_probes_answer(tmp_path: Path, *, is_local: bool, is_required: bool) -> None:
    guarded = Guarded(tmp_path, is_local=is_local, is_required=is_required)
    with serving(guarded.app) as guarded.port:
        assert guarded.ask("GET", "/healthz").code == 200
        assert json.loads(guarded.ask("GET", "/readyz").body) == {"ready": True}
        answer = guarded.ask("GET", "/metrics")
    assert answer.code == 401
    assert answer.sentence == (
        "This agent has no access tokens yet, so it refuses every client. On the device, run sudo edge-agent token "
        "create NAME --scope read, or set http.anonymous to true, which lets everyone in."
    )


def test_anonymous_access_ignores_tokens(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    with serving(rest_app(guarded.models, access=OPEN)) as guarded.port:
        assert guarded.ask("POST", "/api/models/birds/unpin", bearer("wrong")).code == 200
