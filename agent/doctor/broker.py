"""Broker: checks whether the MQTT broker accepts this device, over the agent's own kind of connection."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.doctor.finding import Finding, fault, ok, warning
from agent.errors import ConfigError
from agent.mqtt.link.connection import Connection, ConnectionListener
from agent.mqtt.link.endpoint import Timeouts
from agent.mqtt.message import Message

if TYPE_CHECKING:
    from agent.mqtt.link.endpoint import Endpoint

_TIMEOUT_S = 5.0  # for the network, and for each answer: first to MQTT 5, then to 3.1.1


def check_broker(endpoint: Endpoint) -> Finding:
    """Connects with its own client id, so that a running agent stays connected; leaves nothing at the broker."""
    base = endpoint.will.topic.rpartition("/")[0]
    ours = replace(endpoint, client_id=f"{endpoint.client_id}-doctor", will=Message(f"{base}/doctor", b""))
    logging.getLogger("agent.mqtt").addHandler(logging.NullHandler())  # the finding reports it
    try:
        return asyncio.run(_log_in(ours))
    except ConfigError as error:
        remedy = "Correct it. Files in /run/credentials exist only while the service runs: start the service first."
        return fault("broker", str(error), remedy)


async def _log_in(endpoint: Endpoint) -> Finding:
    timeouts = Timeouts(answer_s=_TIMEOUT_S, network_s=_TIMEOUT_S)
    connection = Connection(endpoint, listener=ConnectionListener(), timeouts=timeouts)
    connection.open()
    while connection.state == "connecting":  # noqa: ASYNC110  (the connection has no event for a failed attempt)
        await asyncio.sleep(0.02)
    finding = _finding(connection, endpoint)
    await connection.close(timeout_s=1)
    return finding


def _finding(connection: Connection, endpoint: Endpoint) -> Finding:
    if connection.state == "connected":
        how = f"MQTT {connection.protocol}{' over TLS' if endpoint.tls else ''}"
        who = f"user {endpoint.username}" if endpoint.username else "this device without a user name"
        if connection.reason is None:
            return ok("broker", f"{endpoint.address} accepts {who} ({how})")
        fact, _, remedy = connection.reason.partition(". ")
        return warning("broker", f"{fact}.", remedy)
    fact, _, remedy = (connection.reason or "").partition(". ")
    return fault("broker", f"{fact.rstrip('.')}.", remedy or "See the broker's own log.")
