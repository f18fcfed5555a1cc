"""Discovery: asks the local networks for ONVIF cameras (WS-Discovery, OASIS wsdd 2005/04; ONVIF Core, chapter 7)."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import select
import socket
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from xml.parsers import expat

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

_GROUP = ("239.255.255.250", 3702)
_WAIT_S = 3.0  # a camera waits up to 0.5 s before it answers
_REPEAT_S = 1.0  # a datagram may be lost
_MAX_CAMERAS = 64
_MAX_ANSWERS = 512
_MAX_BYTES = 16 << 10  # of one answer
_MAX_TEXT = 4 << 10  # of one element
_DISCOVERY = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
_SCOPE = re.compile(r"onvif://www\.onvif\.org/(name|hardware)/([^/\s]+)")
_PROBE = f"""<?xml version="1.0" encoding="UTF-8"?>
<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"
 xmlns:w="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:d="{_DISCOVERY}"
 xmlns:dn="http://www.onvif.org/ver10/network/wsdl"><e:Header>
<w:MessageID>uuid:%s</w:MessageID><w:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>
<w:Action>{_DISCOVERY}/Probe</w:Action></e:Header>
<e:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></e:Body></e:Envelope>"""


@dataclass(frozen=True, slots=True)
class Announced:
    """A camera that answered. Its texts come from the network: print them on one line."""

    address: str  # of the sender of the answer, whatever the answer says
    port: int
    scheme: str
    name: str


@dataclass(slots=True)
class _Match:
    """The texts of one ProbeMatch."""

    addresses: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)


def discover(*, wait_s: float = _WAIT_S) -> list[Announced]:
    """Sends a Probe into the network of each IPv4 address of this machine, and waits for answers. Blocks."""
    found: dict[tuple[str, int], Announced] = {}
    probe = (_PROBE % uuid.uuid4()).encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind(("", 0))
        asking.settimeout(0)  # a datagram with a wrong checksum wakes select() and is not there
        deadline_s = time.monotonic() + wait_s
        repeat_s = time.monotonic() + _REPEAT_S
        _send(asking, probe)
        for _ in range(_MAX_ANSWERS):
            now_s = time.monotonic()
            if repeat_s and now_s >= repeat_s:
                _send(asking, probe)
                repeat_s = 0.0
            if now_s >= deadline_s or len(found) >= _MAX_CAMERAS:
                break
            if select.select([asking], [], [], min(_REPEAT_S, deadline_s - now_s))[0]:
                with contextlib.suppress(OSError):
                    answer, sender = asking.recvfrom(_MAX_BYTES + 1)
                    for camera in announced_in(answer, sender[0]):
                        found.setdefault((camera.address, camera.port), camera)
    return sorted(found.values(), key=lambda camera: (ipaddress.ip_address(camera.address), camera.port))


def announced_in(answer: bytes, sender: str) -> list[Announced]:
    """The cameras that a datagram announces; none if it is not a valid ProbeMatches, or has a DTD."""
    if len(answer) > _MAX_BYTES:
        return []
    reader = _Reader()
    try:
        reader.read(answer)
    except (expat.ExpatError, ValueError):
        return []
    return [camera for match in reader.matches if (camera := _camera(match, sender))]


class _Reader:
    """Collects the ProbeMatch elements."""

    def __init__(self) -> None:
        self.matches: list[_Match] = []
        self._text: list[str] | None = None
        self._length = 0

    def read(self, document: bytes) -> None:
        """Raises ExpatError or ValueError."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartDoctypeDeclHandler = self._refuse  # entities are declared only there
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._more
        parser.Parse(document, True)  # noqa: FBT003  (expat's)

    def _refuse(self, *_: object) -> None:
        raise ValueError("a document type")

    def _start(self, name: str, _attributes: object) -> None:
        if name == f"{_DISCOVERY} ProbeMatch":
            self.matches.append(_Match())
        self._text, self._length = [], 0

    def _more(self, text: str) -> None:
        self._length += len(text)
        if self._text is not None and self._length <= _MAX_TEXT:
            self._text.append(text)

    def _end(self, name: str) -> None:
        words = "".join(self._text or ()).split()
        self._text = None
        if self.matches and name == f"{_DISCOVERY} XAddrs":
            self.matches[-1].addresses += words
        elif self.matches and name == f"{_DISCOVERY} Scopes":
            self.matches[-1].scopes += words


def _camera(match: _Match, sender: str) -> Announced | None:
    """None without an address.

    Whatever host the answer names, it is the sender that will be asked and get the login: a camera with several
    addresses answers from the one that can be reached.
    """
    urls = [url for each in match.addresses if (url := _http_url(each))]
    if not urls:
        return None
    _, scheme, port = next((url for url in urls if url[0] == sender), urls[0])
    labels = {kind: unquote(text, errors="replace") for kind, text in map(_scope, match.scopes) if kind}
    name = " ".join(filter(None, (labels.get("name"), labels.get("hardware"))))
    return Announced(sender, port, scheme, name or "camera")


def _scope(scope: str) -> tuple[str, str]:
    found = _SCOPE.fullmatch(scope)
    return (found[1], found[2]) if found else ("", "")


def _http_url(text: str) -> tuple[str, str, int] | None:
    """Host, scheme and port."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return None
    if url.scheme not in ("http", "https") or not url.hostname:
        return None
    return url.hostname, url.scheme, port or (443 if url.scheme == "https" else 80)


def _send(asking: socket.socket, probe: bytes) -> None:
    for own in _own_addresses():
        with contextlib.suppress(OSError):  # an interface that is down or has no multicast
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
            asking.sendto(probe, _GROUP)


def _own_addresses() -> Iterable[str]:
    return [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET
    ]
