"""RemoteAgent: a client for the HTTP API of a running agent."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from agent.errors import AgentError, ConfigError
from agent.host.access import explain

if TYPE_CHECKING:
    from pathlib import Path

_CONNECT_S = 10.0
_MAX_BYTES = 1 << 24
_REMEDY = "The command takes a token from --token-file or the variable EDGE_AGENT_TOKEN."


class RemoteAgent:
    """Every call but get() raises AgentError if no agent answers, or with the sentence in which the agent refuses.

    Proxies in the environment are ignored: the agent is on this machine or on its network.
    """

    def __init__(
        self, url: str, *, token: str | None = None, cert_file: Path | None = None, timeout_s: float = 90.0
    ) -> None:
        """`url` like http://127.0.0.1:8501; raises ConfigError if it is not valid. `timeout_s`: a pin loads a model.

        `cert_file`: accept exactly this certificate, whatever names it has, instead of one of a known authority.
        """
        self.url = url if "://" in url else f"http://{url}"
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        try:
            parts = urlsplit(self.url)
            self._host, self._port = parts.hostname or "", parts.port
            self._host.encode("idna")
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not self._host or not url.isprintable() or " " in url:
            raise ConfigError(f"{url} is not a valid agent URL. Use the form http://192.168.1.20:8501.")
        self._is_tls = parts.scheme == "https"
        self._certificate = None if cert_file is None else _read_certificate(cert_file)
        self._path = quote(parts.path.rstrip("/"), safe="/%")

    def get(self, path: str) -> tuple[int, bytes]:
        """The status code and the body of the response; raises OSError and http.client.HTTPException."""
        with closing(self._connect()) as connection:
            return self._exchange(connection, "GET", path)

    def models(self) -> list[dict[str, Any]]:
        """The status of each model, as GET /api/models returns it."""
        models = self._ask("GET", "").get("models")
        if not isinstance(models, list):
            raise AgentError(self._not_an_agent("the response is not a list of models"))
        return models

    def model(self, name: str) -> dict[str, Any]:
        """The status of a model, as GET /api/models/NAME returns it; the other four methods return the new status."""
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
            raise AgentError(self._not_an_agent("the response is not the status of a model"))
        return status

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            connection = self._connect()
        except OSError as error:
            raise AgentError(
                f"No agent answers at {self.url} ({error.strerror or error}). Start it, or give its address with "
                "--url or --config."
            ) from None
        try:
            with closing(connection):
                return self._document(*self._exchange(connection, method, f"/api/models{path}", body))
        except TimeoutError:
            raise AgentError(
                f"The agent at {self.url} did not answer within {self._timeout_s:.0f} s. See its log."
            ) from None
        except OSError as error:
            raise AgentError(
                f"The agent at {self.url} closed the connection ({error}). Retry, or see its log."
            ) from None
        except http.client.HTTPException as error:
            raise AgentError(self._not_an_agent(type(error).__name__)) from None

    def _connect(self) -> http.client.HTTPConnection:
        connection = self._connection(min(_CONNECT_S, self._timeout_s))
        connection.connect()
        if self._certificate is not None:
            assert isinstance(connection.sock, ssl.SSLSocket)
            if connection.sock.getpeercert(binary_form=True) != self._certificate:
                connection.close()
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, "its certificate is not the one in http.tls_cert")
        connection.sock.settimeout(self._timeout_s)
        return connection

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if not self._is_tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        context = ssl.create_default_context()
        if self._certificate is not None:  # compared after the handshake, before anything is sent
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=context)

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, bytes]:
        """The status code and the body of the response."""
        content = None if method == "GET" else json.dumps(body or {})
        connection.request(method, self._path + path, content, self._headers)
        with connection.getresponse() as answer:
            return answer.status, answer.read(_MAX_BYTES)

    def _document(self, code: int, content: bytes) -> dict[str, Any]:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise AgentError(self._not_an_agent(f"status {code} without JSON"))
        if code >= 300:
            sentence = str(document.get("error") or self._not_an_agent(f"status {code}"))
            raise AgentError(f"{sentence} {_REMEDY}" if code in (401, 403) else sentence)
        return document

    def _not_an_agent(self, why: str) -> str:
        return (
            f"The server at {self.url} is not an edge-agent ({why}). Give the agent's address with --url or --config."
        )


def _path(name: str) -> str:
    return "/" + quote(os.fsencode(name), safe="")


def _read_certificate(file: Path) -> bytes:
    """The first one, which is the server's own. Raises ConfigError."""
    try:
        _, mark, rest = file.read_text(encoding="ascii").partition(ssl.PEM_HEADER)
        return ssl.PEM_cert_to_DER_cert(mark + rest.partition(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER)
    except OSError as error:
        raise ConfigError(f"http.tls_cert {file} cannot be read: {explain(error, file)}") from None
    except ValueError:
        raise ConfigError(f"http.tls_cert {file} contains no certificate in PEM format.") from None
