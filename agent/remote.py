"""RemoteAgent: a running agent, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlsplit

from agent.errors import AgentError, ConfigError

_CONNECT_S = 10.0
_MAX_BYTES = 1 << 24


class RemoteAgent:
    """Every call but get() raises AgentError in a sentence: nothing answers, or why the agent refuses.

    No proxy is used, whatever the environment says: the agent is on this machine or on its network.
    """

    def __init__(self, url: str, *, timeout_s: float = 90.0) -> None:
        """`url` like http://127.0.0.1:8501; raises ConfigError if it is not a URL. `timeout_s`: a pin loads a model."""
        self.url = url if "://" in url else f"http://{url}"
        self._timeout_s = timeout_s
        try:
            parts = urlsplit(self.url)
            self._host, self._port = parts.hostname or "", parts.port
            self._host.encode("idna")
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not self._host or not url.isprintable() or " " in url:
            raise ConfigError(f"{url} is no URL of an agent. Write it like http://192.168.1.20:8501.")
        self._is_tls = parts.scheme == "https"
        self._path = quote(parts.path.rstrip("/"), safe="/%")

    def get(self, path: str) -> bytes:
        """The body of the answer, whatever its code; raises OSError and http.client.HTTPException."""
        with closing(self._connect()) as connection:
            return self._exchange(connection, "GET", path)[1]

    def models(self) -> list[dict[str, Any]]:
        """The status of each, as GET /api/models gives it."""
        models = self._ask("GET", "").get("models")
        if not isinstance(models, list):
            raise AgentError(self._no_agent("its answer is no list of models"))
        return models

    def model(self, name: str) -> dict[str, Any]:
        """Its status, as GET /api/models/NAME gives it; the other four return the new one."""
        return self._status("GET", _path(name))

    def rollback(self, name: str) -> dict[str, Any]:
        return self._status("POST", f"{_path(name)}/rollback")

    def pin(self, name: str, version: int) -> dict[str, Any]:
        return self._status("POST", f"{_path(name)}/pin", {"version": version})

    def unpin(self, name: str) -> dict[str, Any]:
        return self._status("POST", f"{_path(name)}/unpin")

    def promote(self, name: str) -> dict[str, Any]:
        return self._status("POST", f"{_path(name)}/promote")

    def _status(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        status = self._ask(method, path, body)
        if "versions" not in status:
            raise AgentError(self._no_agent("its answer is no model's status"))
        return status

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            connection = self._connect()
        except OSError as error:
            raise AgentError(
                f"No agent answers at {self.url} ({error.strerror or error}): start it, or say where with --url or "
                "--config."
            ) from None
        try:
            with closing(connection):
                return self._document(*self._exchange(connection, method, f"/api/models{path}", body))
        except TimeoutError:
            raise AgentError(
                f"The agent at {self.url} did not answer within {self._timeout_s:.0f} s. Its log says what it does."
            ) from None
        except OSError as error:
            raise AgentError(f"The agent at {self.url} broke off ({error}). Ask again, or look at its log.") from None
        except http.client.HTTPException as error:
            raise AgentError(self._no_agent(type(error).__name__)) from None

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=min(_CONNECT_S, self._timeout_s))
        connection.connect()
        connection.sock.settimeout(self._timeout_s)
        return connection

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, bytes]:
        """The code and the body of the answer."""
        content = None if method == "GET" else json.dumps(body or {})
        connection.request(method, self._path + path, content, {"Content-Type": "application/json"})
        with connection.getresponse() as answer:
            return answer.status, answer.read(_MAX_BYTES)

    def _document(self, code: int, content: bytes) -> dict[str, Any]:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise AgentError(self._no_agent(f"code {code} without JSON"))
        if code >= 300:
            raise AgentError(str(document.get("error") or self._no_agent(f"code {code}")))
        return document

    def _no_agent(self, why: str) -> str:
        return f"What answers at {self.url} is no agent ({why}): say where it is with --url or --config."


def _path(name: str) -> str:
    return "/" + quote(os.fsencode(name), safe="")
