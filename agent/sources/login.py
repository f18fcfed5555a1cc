"""Login: answers a camera that asks for a user name and a password over HTTP (RFC 7616, RFC 7617)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import TYPE_CHECKING, Any
from urllib.request import BaseHandler, Request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.sources.address import Address, Login

_CHALLENGE = re.compile(
    r"(?i)(?:^|,)\s*(digest|basic)\b(.*?)(?=,\s*[a-z]+\s+[a-z]+\s*=|,\s*(?:basic|ntlm|negotiate)\b|$)"
)
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_DIGESTS = ("MD5", "SHA-256")  # the stronger one last


class LoginHandler(BaseHandler):
    """Part of an opener of urllib. Logs in only to the camera's own host, also if the camera redirects elsewhere.

    The last challenge is kept, so that a camera that is polled is not asked twice for each picture.
    """

    handler_order = 490  # before urllib's own

    def __init__(self, address: Address) -> None:
        self._address = address
        self._challenge: dict[str, str] | None = None
        self._count = 0
        self._answering = False

    def http_request(self, request: Request) -> Request:
        login = self._address.login()
        if self._challenge is not None and login is not None and self._is_camera(request):
            self._count += 1
            answer = authorization(self._challenge, login, path=request.selector, count=self._count)
            request.add_unredirected_header("Authorization", answer)
        return request

    https_request = http_request

    def http_error_401(self, request: Request, response: Any, _code: int, _message: str, headers: Any) -> Any:
        """Returns None, which leaves the error as it is, without a login, or if the camera refused it."""
        challenge = strongest(headers.get_all("WWW-Authenticate", []))
        if self._answering or challenge is None or not self._address.has_username or not self._is_camera(request):
            return None
        response.close()
        self._challenge, self._count, self._answering = challenge, 0, True
        try:
            return self.parent.open(request, timeout=request.timeout)
        finally:
            self._answering = False

    def _is_camera(self, request: Request) -> bool:
        host = re.sub(r":\d*$", "", request.host).strip("[]")
        return host.lower() == self._address.host.lower()


def strongest(headers: Iterable[str]) -> dict[str, str] | None:
    """The challenge to answer, with its `scheme`; None if no scheme is known."""
    challenges = [_parameters(*found.groups()) for header in headers for found in _CHALLENGE.finditer(header)]
    return max(
        (each for each in challenges if _rank(each) is not None), key=lambda each: _rank(each) or 0, default=None
    )


def authorization(challenge: dict[str, str], login: Login, *, path: str, count: int) -> str:
    """The header's value. A digest does not reveal the password; Basic does."""
    if challenge["scheme"] == "basic":
        return "Basic " + base64.b64encode(":".join(login).encode()).decode()
    algorithm = challenge.get("algorithm", "MD5")
    realm, nonce = challenge.get("realm", ""), challenge.get("nonce", "")
    cnonce, nc = secrets.token_hex(8), f"{count:08x}"

    def digest(*parts: str) -> str:
        name = algorithm.upper().removesuffix("-SESS").replace("-", "").lower()
        return hashlib.new(name, ":".join(parts).encode(), usedforsecurity=False).hexdigest()

    key = digest(login.username, realm, login.password)
    if algorithm.upper().endswith("-SESS"):
        key = digest(key, nonce, cnonce)
    request = digest("GET", path)
    fields = {"username": login.username, "realm": realm, "nonce": nonce, "uri": path}
    if "qop" in challenge:
        fields |= {"response": digest(key, nonce, nc, cnonce, "auth", request), "cnonce": cnonce}
    else:
        fields["response"] = digest(key, nonce, request)
    fields |= {name: challenge[name] for name in ("opaque",) if name in challenge}
    quoted = [f'{name}="{_escaped(value)}"' for name, value in fields.items()]
    plain = [f"algorithm={algorithm}"] if "algorithm" in challenge else []
    return "Digest " + ", ".join([*quoted, *plain, *([f"qop=auth, nc={nc}"] if "qop" in challenge else [])])


def _parameters(scheme: str, text: str) -> dict[str, str]:
    pairs = {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain for name, quoted, plain in _PARAMETER.findall(text)}
    return pairs | {"scheme": scheme.lower()}


def _rank(challenge: dict[str, str]) -> int | None:
    if challenge["scheme"] == "basic":
        return 0
    algorithm = challenge.get("algorithm", "MD5").upper().removesuffix("-SESS")
    qops = [qop.strip() for qop in challenge.get("qop", "auth").split(",")]
    return 1 + _DIGESTS.index(algorithm) if algorithm in _DIGESTS and "auth" in qops else None


def _escaped(value: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", value)
