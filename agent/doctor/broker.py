"""Broker: whether it lets this device in, as the agent's own connection finds out."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, fault, ok
from agent.errors import ConfigError
from agent.mqtt.link.connection import Connection, ConnectionListener
from agent.mqtt.link.endpoint import Timeouts
from agent.mqtt.message import Message

if TYPE_CHECKING:
    from agent.mqtt.link.endpoint import Endpoint

_PATIENCE_S = 5.0  # for the network, and for an answer: to MQTT 5, and then to 3.1.1


def check_broker(endpoint: Endpoint) -> Finding:
    """Logs in beside an agent that runs, with another client id, and leaves nothing behind at the broker."""
    base = endpoint.will.topic.rpartition("/")[0]
    ours = replace(endpoint, client_id=f"{endpoint.client_id}-doctor", will=Message(f"{base}/doctor", b""))
    logging.getLogger("agent.mqtt").addHandler(logging.NullHandler())  # the finding says it
    try:
        return asyncio.run(_log_in(ours))
    except ConfigError as error:
        remedy = "Correct it. A file below /run/credentials is there while the service runs: start that first."
        return fault("broker", str(error), remedy)


async def _log_in(endpoint: Endpoint) -> Finding:
    timeouts = Timeouts(answer_s=_PATIENCE_S, network_s=_PATIENCE_S)
    connection = Connection(endpoint, listener=ConnectionListener(), timeouts=timeouts)
    connection.open()
    while connection.state == "connecting":  # noqa: ASYNC110  (a loss that nobody else waits for is only a state)
        await asyncio.sleep(0.02)
    finding = _finding(connection, endpoint)
    await connection.close(timeout_s=1)
    return finding


def _finding(connection: Connection, endpoint: Endpoint) -> Finding:
    if connection.state == "connected":
        how = f"MQTT {connection.protocol}{' over TLS' if endpoint.tls else ''}"
        return ok("broker", f"{endpoint.address} lets {endpoint.username or 'this device, without a name,'} in ({how})")
    fact, _, remedy = (connection.reason or "").partition(". ")
    return fault("broker", f"{fact.rstrip('.')}.", remedy or "Look into the broker's own log.")
