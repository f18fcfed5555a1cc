"""An agent with access tokens: the REST application on a real socket, asked with exact bytes."""

from __future__ import annotations

import itertools
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agents.fake_agent import FakeDataPlane, FakeMetrics, FakeModels, FakeOverview, birds, rest_app

from agent.security.access import AccessRules
from agent.security.sessions import Sessions
from agent.security.tokens import SCOPES, TokensFile, create_token, revoke_token

if TYPE_CHECKING:
    from pathlib import Path

    from agent.rest.front import Reach
    from agent.security.tokens import Scope

_numbers = itertools.count(2)


@dataclass
class Answer:
    code: int
    head: str
    body: str

    @property
    def sentence(self) -> str:
        return str(json.loads(self.body)["error"])


class Guarded:
    """The application on a real socket, with one token for each scope and one that was revoked."""

    def __init__(
        self, folder: Path, *, is_local: bool = False, is_required: bool = False, reach: Reach | None = None
    ) -> None:
        self.file = folder / "tokens"
        self.rules = AccessRules(
            tokens=TokensFile(self.file, is_required=is_required),
            is_local=is_local,
            sessions=Sessions(folder / "session_key"),
        )
        self.models, self.data_plane, self.metrics = FakeModels(birds()), FakeDataPlane(), FakeMetrics()
        self.overview = FakeOverview()
        self.app = rest_app(
            self.models,
            self.data_plane,
            access=self.rules,
            metrics=self.metrics,
            reach=reach,
            overview=self.overview,
        )
        self.port = 0
        self.token: dict[str, str] = {}

    def create_tokens(self) -> None:
        self.token = {scope: create_token(self.file, scope, scope) for scope in SCOPES}
        self.token["revoked"] = create_token(self.file, "revoked", "admin")
        revoke_token(self.file, "revoked")

    def ask(self, method: str, target: str, *lines: bytes, client: str | None = None) -> Answer:
        """Sends one request with exactly these header lines; by default from an address of its own."""
        head = [f"{method} {target} HTTP/1.1".encode(), b"Host: agent", b"Connection: close", *lines]
        if method == "POST":
            head += [b"Content-Type: application/json", b"Content-Length: 2"]
        return self.send(b"\r\n".join([*head, b"", b"{}" if method == "POST" else b""]), client=client)

    def send(self, request: bytes, *, client: str | None = None) -> Answer:
        """By default from an address of its own."""
        number = next(_numbers)
        source = client or f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        with socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=(source, 0)) as connection:
            connection.sendall(request)
            answer = b""
            while not _is_stream(answer) and (piece := connection.recv(1 << 16)):
                answer += piece
            text = answer.decode("utf-8", "replace")
        found, _, body = text.partition("\r\n\r\n")
        return Answer(int(found.split()[1]), found, body)

    def with_token(self, scope: str, method: str, target: str) -> Answer:
        return self.ask(method, target, bearer(self.token[scope]))

    def routes(self) -> list[tuple[str, str, Scope | None]]:
        """Method, path and scope of every route in the OpenAPI description."""
        document = json.loads(self.with_token("admin", "GET", "/openapi.json").body)
        found = []
        for path, methods in document["paths"].items():
            for method, described in methods.items():
                scopes = [scope for scheme in described["security"] for scope in scheme["token"]]
                assert len(scopes) <= 1, path
                found.append((method.upper(), path, scopes[0] if scopes else None))
        return found


def _is_stream(answer: bytes) -> bool:
    """It has no end, so only its beginning is read."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return bool(body) and (b"text/event-stream" in head or b"x-mixed-replace" in head)


def bearer(token: str) -> bytes:
    return b"Authorization: Bearer " + token.encode()
