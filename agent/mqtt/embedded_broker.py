"""EmbeddedBroker: an MQTT broker inside this process, so that the demo needs no installed broker."""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError
from agent.host.extra import command_that_adds

if TYPE_CHECKING:
    from amqtt.broker import Broker


class EmbeddedBroker:
    """Accepts every client, stores nothing on disk and supports MQTT 3.1.1 only. For the demo, not for a device."""

    def __init__(self, *, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._broker: Broker | None = None

    async def start(self) -> None:
        """Serves in the running loop until stop(). Raises AgentError if amqtt is missing or the port is in use."""
        try:
            from amqtt.broker import Broker  # noqa: PLC0415  (part of the demo extra, and slow to import)
            from amqtt.errors import BrokerError  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise AgentError(
                f"The embedded MQTT broker needs the package {error.name}. Install it: {command_that_adds('demo')}"
            ) from error
        for chatty in ("amqtt", "transitions"):  # they log every client and expected errors
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        asyncio.get_running_loop().set_exception_handler(_ignore_clients_that_left)
        broker = Broker(_config(self.host, self.port))
        try:
            await broker.start()
        except BrokerError as error:
            raise AgentError(
                f"The embedded MQTT broker cannot listen on {self.host}:{self.port}: {_reason(error)}. "
                "Stop the program that uses this port, or set another mqtt.port."
            ) from error
        self._broker = broker

    async def stop(self) -> None:
        """Does nothing if the broker was not started."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.shutdown()


def _ignore_clients_that_left(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Amqtt does not catch the errors of writing to a client that has left, and asyncio logs them with a traceback."""
    frames = traceback.walk_tb(getattr(context.get("exception"), "__traceback__", None))
    if not any(frame.f_globals.get("__name__", "").startswith("amqtt.") for frame, _ in frames):
        loop.default_exception_handler(context)


def _reason(error: BaseException) -> str:
    """Returns the operating system's message if there is one: asyncio's own message repeats the address."""
    cause = error.__cause__
    return os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else str(cause or error)


def _config(host: str, port: int) -> dict[str, object]:
    """The explicit list of plugins disables amqtt's defaults: $SYS statistics and a log of every packet."""
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
