"""Ways into the agent that must be closed: real connections to the real server, and no request that is carried out.

Each way is sent as exact bytes. tests/rest/test_access.py sends further forms of tokens to every route.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from agents.guarded import Guarded, bearer
from peers.web_server import running

from agent.errors import StartError
from agent.rest.front import Reach
from agent.rest.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agents.guarded import Answer

PIN = "/api/models/birds/pin"
PROXY = "127.200.0.1"
_FORM = (
    b'--a\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n'
    b'--a\r\nContent-Disposition: form-data; name="access_token"\r\n\r\n%s\r\n--a--\r\n'
)
_REACH = Reach(hosts=("edge.example.com",), cors=("https://shop.example",), base_path="/edge")


@dataclass(frozen=True)
class Request:
    """An upload from another address, unless said otherwise. `sends_token`: the one with the scope of this name."""

    target: str = "/predict"
    method: str = "POST"
    sends_token: str | None = None
    lines: tuple[bytes, ...] = ()
    hosts: tuple[bytes, ...] = (b"192.168.1.20:8501",)
    body: bytes = b"abc"
    version: bytes = b"1.1"
    client: str | None = None

    def content(self, token: dict[str, str]) -> bytes:
        """`token`: replaces %(NAME)s in the target, the header lines and the body."""
        lines = [f"{self.method} {self.target} HTTP/".encode() + self.version, b"Connection: close"]
        lines += [b"Host: " + host for host in self.hosts]
        lines += self.lines
        if self.sends_token is not None:
            lines.append(bearer(token[self.sends_token]))
        if self.method in ("POST", "PUT"):
            lines.append(b"Content-Length: %d" % len(self.filled(self.body, token)))
        return self.filled(b"\r\n".join([*lines, b"", self.body if b"Content-Length" in lines[-1] else b""]), token)

    @staticmethod
    def filled(text: bytes, token: dict[str, str]) -> bytes:
        values = {
            "token": token["admin"],
            "start": token["admin"][:-1],
            "basic": base64.b64encode(f"admin:{token['admin']}".encode()).decode(),
            "hash": 64 * "0",
        }
        for name, value in values.items():
            text = text.replace(f"%({name})s".encode(), value.encode())
        return text


@dataclass(frozen=True)
class Way:
    name: str
    request: Request
    code: int
    sentence: str  # a part of it
    site: str = "guarded"


@dataclass
class Sites:
    """`guarded` has tokens, `empty` none yet; `open` lets everyone in."""

    guarded: Guarded
    empty: Guarded
    open: Guarded

    def carried_out(self) -> list[int]:
        sites = (self.guarded, self.empty, self.open)
        return [len(site.models.asked) + len(site.data_plane.options) for site in sites]

    def ask(self, site: str, request: Request) -> Answer:
        answer: Answer = getattr(self, site).send(request.content(self.guarded.token), client=request.client)
        return answer


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    sites = Sites(
        *(
            Guarded(tmp_path_factory.mktemp(name), is_local=name == "open", reach=_REACH)
            for name in ("guarded", "empty", "open")
        )
    )
    sites.guarded.create_tokens()
    with ExitStack() as stack:
        for site in (sites.guarded, sites.empty, sites.open):
            server = Server(site.app, header_timeout_s=20, body_timeout_s=20, trusted_proxies=["127.200.0.0/16"])
            site.port = stack.enter_context(running(server))
        yield sites


def wrong(name: str, *lines: bytes, sentence: str = "has no access token") -> Way:
    return Way(f"token: {name}", Request(lines=lines), 401, sentence)


def foreign_host(name: str, *hosts: bytes, code: int = 421, **changes: bytes) -> Way:
    sentence = "http.hosts" if code == 421 else "one valid Host header"
    return Way(f"host: {name}", Request(hosts=hosts, sends_token="admin", **changes), code, sentence)  # type: ignore[arg-type]


def foreign_page(name: str, *lines: bytes, site: str = "open", **changes: str) -> Way:
    request = Request(lines=lines, sends_token="admin" if site == "guarded" else None, **changes)  # type: ignore[arg-type]
    return Way(f"page: {name}", request, 403, "http.cors", site)


def trick(name: str, target: str, *lines: bytes, method: str = "POST", sentence: str = "An access token") -> Way:
    return Way(f"trick: {name}", Request(target, method, lines=lines), 401, sentence)


EVIL = b"Origin: https://evil.example"
_ASKS = b"Access-Control-Request-Method: POST"
_UNKNOWN = "unknown or was revoked"

REFUSED = [
    wrong("none", sentence="An access token is required"),
    wrong("wrong", bearer("edge_" + 43 * "A"), sentence=_UNKNOWN),
    Way("token: revoked", Request(sends_token="revoked"), 401, _UNKNOWN),
    Way("token: other scope, upload", Request(sends_token="read"), 403, "has the scope read; this needs infer"),
    Way("token: other scope, pin", Request(PIN, sends_token="infer"), 403, "has the scope infer; this needs admin"),
    wrong("empty", b"Authorization:"),
    wrong("scheme only", b"Authorization: Bearer"),
    wrong("without a scheme", b"Authorization: %(token)s"),
    wrong("lower case scheme, wrong", b"authorization: bearer edge_" + 43 * b"A", sentence=_UNKNOWN),
    wrong("two headers", bearer("%(token)s"), bearer("%(token)s")),
    wrong("two in one header", bearer("%(token)s, Bearer %(token)s")),
    wrong("one character less", bearer("%(start)s"), sentence=_UNKNOWN),
    wrong("one character more", bearer("%(token)sA"), sentence=_UNKNOWN),
    wrong("right start, wrong end", bearer("%(start)s!")),
    wrong("its name and a wrong secret", bearer("admin.%(start)s"), sentence=_UNKNOWN),
    wrong("hash", bearer("%(hash)s"), sentence=_UNKNOWN),
    wrong("Basic", b"Authorization: Basic %(basic)s"),
    wrong("Digest", b"Authorization: Digest %(token)s"),
    wrong("cookie", b"Cookie: access_token=%(token)s; Authorization=Bearer %(token)s", sentence="is required"),
    wrong("X-Api-Key", b"X-Api-Key: %(token)s", sentence="is required"),
    wrong("Proxy-Authorization", b"Proxy-" + bearer("%(token)s"), sentence="is required"),
    Way("token: query", Request("/predict?access_token=%(token)s"), 401, "is required"),
    Way("token: user in the target", Request("http://admin:%(token)s@agent/predict"), 401, "is required"),
    Way(
        "token: form field",
        Request(body=_FORM % b"%(token)s", lines=(b"Content-Type: multipart/form-data; boundary=a",)),
        401,
        "is required",
    ),
    Way("token: none exists yet", Request(), 401, "no access tokens yet", "empty"),
    foreign_host("other name", b"evil.example"),
    foreign_host("other name and port", b"evil.example:8501"),
    foreign_host("other name, trailing dot", b"evil.example."),
    foreign_host("begins like an address", b"127.0.0.1.evil.example"),
    foreign_host("begins like localhost", b"localhost.evil.example"),
    foreign_host("ends like a listed name", b"evil-edge.example.com"),
    foreign_host("below a listed name", b"evil.edge.example.com"),
    foreign_host("short form of an address", b"127.1"),
    foreign_host("hexadecimal address", b"0x7f.0.0.1"),
    foreign_host("user", b"localhost@evil.example", code=400),
    foreign_host("user before a right name", b"evil.example@localhost", code=400),
    foreign_host("two headers", b"localhost", b"evil.example", code=400),
    foreign_host("two headers, the first known", b"192.168.1.20:8501", b"evil.example", code=400),
    foreign_host("two equal headers", b"192.168.1.20:8501", b"192.168.1.20:8501", code=400),
    foreign_host("two in one header", b"localhost, evil.example", code=400),
    foreign_host("none", code=400),
    foreign_host("empty", b"", code=400),
    foreign_host("path", b"localhost/.evil.example", code=400),
    foreign_host("not ASCII", b"l\xc3\xb6calhost", code=400),
    foreign_host("no address in brackets", b"[::1::2]:8501", code=400),
    foreign_host("other name, HTTP/1.0", b"evil.example", version=b"1.0"),
    Way(
        "host: right one in the target, other in the header",
        Request("http://localhost/predict", hosts=(b"evil.example",), sends_token="admin"),
        421,
        "http.hosts",
    ),
    Way(
        "host: X-Forwarded-Host",
        Request(hosts=(b"evil.example",), sends_token="admin", lines=(b"X-Forwarded-Host: localhost",), client=PROXY),
        421,
        "http.hosts",
    ),
    Way("host: local, without tokens", Request(PIN, hosts=(b"evil.example",)), 421, "http.hosts", "open"),
    foreign_page("form", EVIL, b"Content-Type: application/x-www-form-urlencoded"),
    foreign_page("form with a file", EVIL, b"Content-Type: multipart/form-data; boundary=a"),
    foreign_page("form, plain text", EVIL, b"Content-Type: text/plain"),
    foreign_page("JSON", EVIL, b"Content-Type: application/json", target=PIN),
    foreign_page("without a content type", EVIL, target=PIN),
    foreign_page("in a sandbox", b"Origin: null"),
    foreign_page("other port", b"Origin: http://192.168.1.20:3000"),
    foreign_page("Sec-Fetch-Site alone", b"Sec-Fetch-Site: cross-site"),
    foreign_page("same site", b"Sec-Fetch-Site: same-site", b"Origin: http://192.168.1.20:3000"),
    foreign_page("other scheme of a listed origin", b"Origin: http://shop.example"),
    foreign_page("other port of a listed origin", b"Origin: https://shop.example:8443"),
    foreign_page("below a listed origin", b"Origin: https://evil.shop.example"),
    foreign_page("begins like a listed origin", b"Origin: https://shop.example.evil.example"),
    foreign_page("PUT", EVIL, method="PUT"),
    foreign_page("form with a right token", EVIL, site="guarded"),
    foreign_page("preflight", EVIL, _ASKS, method="OPTIONS"),
    foreign_page(
        "preflight for a token", EVIL, _ASKS, b"Access-Control-Request-Headers: authorization", method="OPTIONS"
    ),
    foreign_page("preflight, with tokens", EVIL, _ASKS, site="guarded", method="OPTIONS"),
    trick("X-Forwarded-For", "/predict", b"X-Forwarded-For: 127.0.0.1", b"X-Real-IP: 127.0.0.1"),
    trick("Forwarded", "/predict", b"Forwarded: for=127.0.0.1;host=localhost;proto=https"),
    Way(
        "trick: X-Forwarded-For from a proxy",
        Request(lines=(b"X-Forwarded-For: 127.0.0.1",), client=PROXY),
        401,
        "is required",
    ),
    Way("trick: claims to be local", Request(lines=(b"X-Forwarded-For: ::1",), client=PROXY), 401, "yet", "empty"),
    trick("X-Original-URL", "/predict", b"X-Original-URL: /healthz", b"X-Rewrite-URL: /healthz"),
    trick("X-HTTP-Method-Override", "/predict", b"X-HTTP-Method-Override: GET", b"X-Method-Override: GET"),
    trick("free path in the query", "/predict?/healthz"),
    trick("free path before it", "/healthz/../predict"),
    trick("free path before it, encoded", "/healthz/%2e%2e%2fpredict"),
    trick("double slash", "//predict"),
    trick("encoded letter", "/%70redict"),
    trick("parameter", "/predict;/healthz"),
    trick("trailing dot", "/predict."),
    trick("trailing slash", "/predict/"),
    trick("upper case", "/PREDICT"),
    trick("encoded null", "/healthz%00/predict"),
    trick("below the base path", "/edge/predict"),
    trick("base path twice", "/edge/edge/healthz"),
    trick("base path twice, free path", "/edge/edge/healthz", method="GET"),
    trick("base path and a dot", "/edge/../predict"),
    trick("HEAD", "/metrics", method="HEAD", sentence=""),
    trick("OPTIONS", "/predict", method="OPTIONS"),
    trick("TRACE", "/predict", method="TRACE"),
    trick("PROPFIND", "/predict", method="PROPFIND"),
    trick("asynchronous form", "/predict_async"),
    trick("batch", "/batch_predict"),
    trick("TensorFlow Serving", "/v1/models/birds:predict"),
    trick("Open Inference", "/v2/models/birds/infer"),
    trick("server metadata", "/v2", method="GET"),
    trick("metadata", "/v1/models/birds/metadata", method="GET"),
    trick("status of a version", "/v1/models/birds/versions/2", method="GET"),
    trick("models", "/api/models", method="GET"),
    trick("pin", PIN),
    trick("metrics", "/metrics", method="GET"),
    trick("description", "/openapi.json", method="GET"),
    trick("page", "/docs", method="GET"),
    Way(
        "trick: double slash, with a token", Request("//predict", sends_token="admin"), 404, "//predict does not exist"
    ),
    Way("trick: CONNECT", Request("localhost:8501", "CONNECT"), 400, "not valid HTTP"),
    Way("trick: unknown protocol", Request(version=b"9.7"), 400, "not valid HTTP"),
]

ACCEPTED = {
    "token": Request(),
    "admin": Request(PIN, body=b'{"version": 1}', lines=(b"Content-Type: application/json",)),
    "in the target": Request("http://agent/predict"),
    "encoded": Request("/%70redict"),
    "below the base path": Request("/edge/predict"),
    "base path, encoded": Request("/%65dge/predict"),
    "host: name without a dot": Request(hosts=(b"agent:8501",)),
    "host: with an underscore": Request(hosts=(b"edge_agent",)),
    "host: localhost": Request(hosts=(b"LocalHost:1",)),
    "host: IPv6": Request(hosts=(b"[fe80::1]:8501",)),
    "host: IPv4 in IPv6": Request(hosts=(b"[::ffff:192.168.1.20]",)),
    "host: listed, trailing dot": Request(hosts=(b"EDGE.example.com.:8501",)),
    "host: this machine": Request(hosts=(f"{socket.gethostname()}.local".encode(),)),
    "host: none, HTTP/1.0": Request(hosts=(), version=b"1.0"),
    "page: listed": Request(lines=(b"Origin: https://shop.example", b"Sec-Fetch-Site: cross-site")),
    "page: its own": Request(lines=(b"Origin: http://192.168.1.20:8501",)),
    "page: its own, behind a proxy": Request(lines=(b"Origin: https://edge.example", b"Sec-Fetch-Site: same-origin")),
    "page: typed by a person": Request(lines=(b"Sec-Fetch-Site: none",)),
    "reading from another page": Request("/metrics", "GET", lines=(EVIL, b"Sec-Fetch-Site: cross-site")),
}


@pytest.mark.parametrize("site", ["guarded", "open"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_right_request_is_accepted(sites: Sites, name: str, site: str) -> None:
    sends_token = "admin" if site == "guarded" else None
    answer = sites.ask(site, dataclasses.replace(ACCEPTED[name], sends_token=sends_token))
    assert answer.code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/edge/healthz"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("host", [b"10.1.2.3:8501", b"health.check.example", b"backend_1", b"a.elb.example:80"])
def test_probes_may_use_any_name(sites: Sites, path: str, method: str, host: bytes) -> None:
    for site in ("guarded", "empty", "open"):
        assert sites.ask(site, Request(path, method, hosts=(host,))).code == 200


def test_pages_of_a_listed_origin_may_read_answers(sites: Sites) -> None:
    shop = b"Origin: https://shop.example"
    wants = b"Access-Control-Request-Headers: authorization,content-type"
    preflight = sites.ask("guarded", Request(method="OPTIONS", lines=(shop, _ASKS, wants)))
    assert preflight.code == 200
    assert "access-control-allow-origin: https://shop.example" in preflight.head
    for request in (Request(lines=(shop,)), Request(lines=(shop,), sends_token="read")):  # refusals as well
        answer = sites.ask("guarded", request)
        assert answer.code in (401, 403)
        assert "access-control-allow-origin: https://shop.example" in answer.head
        assert "access-control-allow-credentials" not in answer.head


def test_an_asterisk_lets_all_pages_and_names_in_without_credentials(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, reach=Reach(hosts=("*",), cors=("*",)))
    guarded.create_tokens()
    with running(Server(guarded.app, header_timeout_s=20, body_timeout_s=20)) as guarded.port:
        sites = Sites(guarded, guarded, guarded)
        request = Request(hosts=(b"any.example",), lines=(EVIL,), sends_token="infer")
        answer = sites.ask("guarded", request)
        assert answer.code == 200
        assert "access-control-allow-origin: *" in answer.head
        assert "access-control-allow-credentials" not in answer.head
        assert sites.ask("guarded", dataclasses.replace(request, sends_token=None)).code == 401


def test_address_from_a_trusted_proxy_is_the_one_that_is_slowed_down(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    def guess(lines: tuple[bytes, ...], client: str) -> None:
        sites.ask("guarded", Request(lines=(bearer("wrong"), *lines), client=client))

    guess((b"X-Forwarded-For: 6.6.6.6, 198.51.100.7, 127.200.0.9",), PROXY)
    guess((b"X-Forwarded-For: 198.51.100.8",), "127.0.77.1")
    assert [message.split()[0] for message in caplog.messages] == ["198.51.100.7", "127.0.77.1"]


def test_answers_over_https_decide_nothing_for_other_ports_of_the_host(sites: Sites) -> None:
    forwarded = (b"X-Forwarded-Proto: https",)
    assert "strict-transport-security" not in sites.ask("open", Request(lines=forwarded, client=PROXY)).head.lower()


def test_every_answer_has_security_headers(sites: Sites) -> None:
    for request in (Request(), Request("/healthz", "GET"), Request("/nowhere"), Request(version=b"9.7")):
        head = sites.ask("open", request).head
        for header in (
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cross-origin-resource-policy: same-origin",
            "referrer-policy: same-origin",
            "cache-control: no-store",
        ):
            assert head.count(f"\r\n{header}") == 1
        assert "\r\nserver:" not in head.lower()


def test_documentation_page_may_run_only_its_own_script(sites: Sites) -> None:
    page = sites.ask("open", Request("/edge/docs", "GET"))
    assert page.head.count("content-security-policy:") == 1
    script = hashlib.sha256(page.body.partition("<script>")[2].partition("</script>")[0].encode()).digest()
    allowed = re.search(r"content-security-policy: default-src 'none'; .*; script-src ([^;]*);", page.head)
    assert allowed
    assert f"'sha256-{base64.b64encode(script).decode()}'" in allowed[1]
    assert "unsafe" not in allowed[1]
    assert "url: 'openapi.json'" in page.body  # relative to the page, so below the base path
    description = json.loads(sites.ask("open", Request("/edge/openapi.json", "GET")).body)
    assert description["servers"] == [{"url": "/edge"}]


def test_errors_and_metrics_below_a_base_path(sites: Sites) -> None:
    sites.open.metrics.requests.clear()
    answer = sites.ask("open", Request("/edge/nowhere", "GET"))
    assert answer.sentence == "/edge/nowhere does not exist. See GET /edge/docs for the routes."
    answer = sites.ask("open", Request("/edge/predict", "PUT"))
    assert answer.sentence == "Method PUT is not allowed for /edge/predict. See GET /edge/docs."
    sites.ask("open", Request("/edge/v1/models/none", "GET"))
    sites.ask("open", Request(hosts=(b"evil.example",)))
    assert sites.open.metrics.requests == [
        *(("other", 404), ("/predict", 405), ("/v1/models/{name}", 404), ("other", 421))
    ]


@pytest.mark.parametrize("base_path", ["/api", "/predict", "/v1/models"])
def test_base_path_that_is_also_a_route_is_refused(tmp_path: Path, base_path: str) -> None:
    with pytest.raises(StartError, match=f"http.base_path: {base_path} is also in the agent's path /"):
        Guarded(tmp_path, reach=Reach(base_path=base_path))


@pytest.mark.parametrize("way", REFUSED, ids=lambda way: way.name)
def test_a_request_is_refused(sites: Sites, way: Way) -> None:
    before = sites.carried_out()
    answer = sites.ask(way.site, way.request)
    assert answer.code == way.code
    if way.request.method != "HEAD":
        assert way.sentence in answer.sentence
    assert sites.carried_out() == before
    assert "access-control-allow-origin" not in answer.head
    assert "x-content-type-options: nosniff" in answer.head
    assert not re.search(r"robin|uvicorn|starlette|fastapi|python|\b1\.2\.3\b|serving", answer.head + answer.body)
