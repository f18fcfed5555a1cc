"""Reachability: why a camera on the network does not answer."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.sources.address import Address

BRIEF_S = 0.5  # for a camera that answered a moment ago, since its status waits for the reason


def why_unreachable(address: Address, *, timeout_s: float) -> str | None:
    """A sentence without a password; None if a server listens there, or if its port is unknown. Blocks."""
    if not address.host or address.port is None:
        return None
    try:
        socket.create_connection((address.host, address.port), timeout_s).close()
    except socket.gaierror:
        return f"{address}: the host name cannot be resolved. Correct it, or use the IP address.{address.advice}"
    except OSError as error:
        reason = error.strerror or error
        return f"{address} does not answer ({reason}). Check its power, network and port.{address.advice}"
    return None
