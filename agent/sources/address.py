"""Address: the URL of a network camera, and its user name and password, which are never shown."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from agent.errors import SourceError
from agent.host.access import explain

if TYPE_CHECKING:
    from pathlib import Path

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}
_WITHOUT_HOST = ("udp", "rtp", "tcp")  # udp://@:5000 receives from any sender
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(.*)", re.DOTALL)
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\[\]:@\s]*)(?::([0-9]{0,5}))?")
_SECRET_IN_PATH = re.compile(r"(?i)((?:user|login|pass|pwd|token|auth|key|secret)[a-z]*=).*", re.DOTALL)
_NO_URL = "is not a valid URL. Use the form rtsp://user:password@host:port/path."
_ENCODE = (
    "In a user name or password, write # as %23, / as %2F, ? as %3F, [ as %5B, ] as %5D, @ as %40 and % as %25 "
    "(they must be percent-encoded), or use the keys username and password_file."
)


class Login(NamedTuple):
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Address:
    """A valid URL without its user and password, which are kept apart; str() and repr() show no secret."""

    scheme: str
    host: str
    port: int | None
    _place: str = field(repr=False)  # host and port as in the URL
    _rest: str = field(repr=False)  # path and query, percent-encoded
    _username: str | None = field(repr=False)
    _password: str = field(repr=False)
    _password_file: Path | None = field(repr=False)

    @classmethod
    def parse(cls, url: str, *, username: str | None = None, password_file: Path | None = None) -> Address:
        """The keys replace the user name and password in the URL. Raises ValueError with what is wrong and what to do.

        The characters [ ] @ and a lone % are understood in a password, but # / ? would end the host.
        """
        found = _URL.fullmatch(url.strip())
        if found is None:
            raise ValueError(_NO_URL)
        scheme, authority, rest, fragment = found[1].lower(), found[2], found[3], found[4]
        if scheme not in PORTS and scheme not in _WITHOUT_HOST:
            known = ", ".join([*PORTS, *_WITHOUT_HOST])
            raise ValueError(f"has the unknown scheme {scheme}://. Use one of {known}, or the path of a file.")
        user, _, place = authority.rpartition("@")
        host, port = _host_and_port(place)
        if host is None and place.count(":") == 1 and "@" not in rest + fragment:
            raise ValueError("has a port that is not a number from 1 to 65535. Correct it.")
        # "admin:" before a slash is the start of a login, and not a host with an empty port.
        if host is None or "@" in fragment or (place.endswith(":") and "@" in rest):
            raise ValueError(f"is not a valid URL. {_ENCODE}" if "@" in url else _NO_URL)
        if not host and scheme not in _WITHOUT_HOST:
            raise ValueError(f"has no host and {_NO_URL}")
        name, _, password = user.partition(":")
        return cls(
            scheme=scheme,
            host=host,
            port=port or PORTS.get(scheme),
            _place=place,
            _rest=quote(rest, safe=string.punctuation),
            _username=username or unquote(name) or None,
            _password=unquote(password),
            _password_file=password_file,
        )

    def __str__(self) -> str:
        return redact(self.url)

    @property
    def url(self) -> str:
        """Without user name and password; a path or a query may still hold one, so only str() may be shown."""
        return f"{self.scheme}://{self._place}{self._rest}"

    @property
    def has_username(self) -> bool:
        return self._username is not None

    @property
    def advice(self) -> str:
        """What to do if the host is wrong or the camera refuses the login: a password may have cut the URL."""
        return f" {_ENCODE}" if "@" in self._rest else ""

    def login(self) -> Login | None:
        """Reads the password file again, so that a new password counts at the next attempt; raises SourceError."""
        if self._username is None:
            return None
        if self._password_file is None:
            return Login(self._username, self._password)
        try:
            return Login(self._username, self._password_file.read_text(encoding="utf-8-sig").strip("\r\n"))
        except (OSError, UnicodeDecodeError) as error:
            why = explain(error, self._password_file)
            raise SourceError(
                f"The camera's password_file {self._password_file} cannot be read: {why} Correct it or its permissions."
            ) from None

    def url_with_login(self) -> str:
        """For FFmpeg, which takes the login only there. Raises SourceError."""
        login = self.login()
        if login is None:
            # A colon or @ that stood before the host means "any sender" in udp://@:5000.
            return self.url
        user = ":".join(quote(part, safe="") for part in login)
        return f"{self.scheme}://{user}@{self._place}{self._rest}"


def _host_and_port(place: str) -> tuple[str | None, int | None]:
    """None as the host if `place` is not a host with an optional port."""
    found = _HOST_AND_PORT.fullmatch(place)
    port = int(found[2]) if found and found[2] else None
    if found is None or (port or 0) > 65535:
        return None, None
    host = found[1].strip("[]")
    try:
        host.encode("idna")
    except UnicodeError:
        return None, None
    return host, port


def redact(url: str) -> str:
    """The URL without user name, password and query, which may also hold a password; safe to show."""
    # Up to the last @, since a password may contain @, / and ? unescaped.
    shown = re.sub(r"\?.*", "?***", re.sub(r"://.*@", "://***@", url, flags=re.DOTALL), flags=re.DOTALL)
    return redact_named(shown) if "://" in shown else shown


def redact_named(url: str) -> str:
    """The URL without what follows `password=` and the like, such as in a path; other parameters stay."""
    return _SECRET_IN_PATH.sub(r"\1***", url)
