"""Rpc: whether the agent can answer over gRPC."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from agent.doctor.finding import fault, ok
from agent.wiring.rpc import why_no_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.sections import Config
    from agent.doctor.finding import Finding


def check_grpc(config: Config, *, is_running: bool) -> Iterator[Finding]:
    """Nothing if gRPC is off. `is_running`: whether the agent runs, which then uses the port itself.

    Its certificate and its tokens are those of HTTP, which other checks look at.
    """
    section = config.grpc
    if not section.enabled:
        return
    if (trouble := why_no_grpc(config)) is not None:
        yield fault("gRPC", trouble, "Or set grpc.enabled to false.")
    elif not is_running and (reason := _why_taken(section.host, section.port)) is not None:
        yield fault(
            "gRPC",
            f"The agent could not listen on {section.host}:{section.port}: {reason}.",
            "Stop the program that uses the port (ss -tlnp lists it), or correct grpc.host and grpc.port.",
        )
    else:
        yield ok("gRPC", f"on, at {section.host}:{section.port}")


def _why_taken(host: str, port: int) -> str | None:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family):
            return None
    except OSError as error:
        return str(error.strerror).partition(" (while attempting")[0]
