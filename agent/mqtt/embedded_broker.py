"""EmbeddedBroker: an MQTT broker inside this process, so that the demo needs none installed."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from agent.errors import AgentError

if TYPE_CHECKING:
    from amqtt.broker import Broker


class EmbeddedBroker:
    """Lets everybody in, keeps nothing on disk and speaks MQTT 3.1.1 only: for the demo, not for a device."""

    def __init__(self, *, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._broker: Broker | None = None

    async def start(self) -> None:
        """Serves in the running loop until stop(). Raises AgentError without amqtt or with the port taken."""
        try:
            from amqtt.broker import Broker  # noqa: PLC0415  (of the demo extra, and slow to import)
            from amqtt.errors import BrokerError  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise AgentError(
                f"The embedded MQTT broker needs the package {error.name}: pip install 'edge-agent[demo]'"
            ) from error
        for chatty in ("amqtt", "transitions"):  # they report each client, and expected errors
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
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
        """Does nothing unless it was started."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.shutdown()


def _reason(error: BaseException) -> str:
    """The operating system's words where they are the cause: asyncio's own repeat the address."""
    cause = error.__cause__
    return os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else str(cause or error)


def _config(host: str, port: int) -> dict[str, object]:
    """Naming the plugins leaves out amqtt's default ones: $SYS statistics and a log of every packet."""
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
