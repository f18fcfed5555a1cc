"""Hosts: the names that requests may use for the agent, so that no web page reaches it by a name of its own."""

from __future__ import annotations

import ipaddress
import re
import time
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from agent.host.names import own_names

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.responses import Response

MISDIRECTED = 421
_REFRESH_S = 5.0
_MAX_ACCEPTED = 256
_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([\w-]+(?:\.[\w-]+)*)\.?)(?::\d{1,5})?")


class Hosts:
    """Judges the Host header (RFC 9110, 7.2), without its port.

    In DNS rebinding, a web page lets its own name point to the agent's address. That takes a name that the page's
    owner can register, so one with a dot. IP addresses and names without a dot are therefore always accepted.
    """

    def __init__(
        self,
        named: Collection[str] = (),
        *,
        names: Callable[[], Collection[str]] = own_names,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`named`: further names, in lower case; "*" accepts all. `names`: this machine's, which may change."""
        self._named = frozenset(named)
        self._names = names
        self._clock = clock
        self._own: Collection[str] = ()
        self._read_s = float("-inf")
        self._accepted: set[bytes] = set()

    def refusal(self, hosts: list[bytes], http_version: str) -> Response | None:
        """For the Host headers of a request. The status is MISDIRECTED if the only fault is an unknown name."""
        if len(hosts) == 1 and hosts[0] in self._accepted:
            return None
        if not hosts and http_version == "1.0":  # such as probes of HAProxy; every browser sends the header
            return None
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None or (found[1] and not _is_address(found[1].decode())):
            return _refuse(400, "The request must have one valid Host header, such as Host: 192.168.1.20:8501.")
        name = (found[1] or found[2]).decode().lower()
        if not self._is_accepted(name):
            sentence = f"This agent is not known as {name}. Use its IP address or host name, or add {name} to"
            return _refuse(MISDIRECTED, f"{sentence} http.hosts in its configuration.")
        if len(self._accepted) < _MAX_ACCEPTED:
            self._accepted.add(hosts[0])
        return None

    def _is_accepted(self, name: str) -> bool:
        return "." not in name or _is_address(name) or not self._named.isdisjoint((name, "*")) or name in self._now()

    def _now(self) -> Collection[str]:
        """The names of this machine; DHCP or a person may change them while the agent runs."""
        if self._clock() - self._read_s >= _REFRESH_S:
            self._own, self._read_s = self._names(), self._clock()
        return self._own


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _refuse(code: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, code)
