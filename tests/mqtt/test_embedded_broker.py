from __future__ import annotations

import asyncio
import logging
import sys

import pytest
from agents.mqtt_publisher import mqtt_publisher
from peers.mosquitto import free_port
from peers.subscriber import Subscriber, until

from agent.errors import AgentError
from agent.mqtt.embedded_broker import EmbeddedBroker
from agent.mqtt.link.endpoint import Timeouts

pytest.importorskip("amqtt", reason="amqtt is not installed: pip install 'edge-agent[demo]'")


async def _subscriber(port: int) -> Subscriber:
    """Connects in another thread, because the broker runs in this one."""
    return await asyncio.to_thread(Subscriber(port).__enter__)


def _fail(value: None) -> None:
    raise AttributeError(value)


@pytest.mark.anyio
async def test_embedded_broker_makes_the_client_fall_back_to_mqtt_3_1_1() -> None:
    broker = EmbeddedBroker(host="127.0.0.1", port=free_port())
    await broker.start()
    publisher = mqtt_publisher(broker.port, timeouts=Timeouts(answer_s=0.3))
    publisher.start()
    await until(lambda: publisher.status.state == "connected")
    assert publisher.status.protocol == "3.1.1"
    subscriber = await _subscriber(broker.port)
    await until(lambda: subscriber.of("/info"))
    assert subscriber.payloads("/status")[-1] == "online"
    assert subscriber.of("/info")[0].json == {"version": "0.1.0"}
    await publisher.close(5)
    await until(lambda: subscriber.payloads("/status")[-1] == "offline")
    await asyncio.to_thread(subscriber.__exit__, None, None, None)
    await broker.stop()


@pytest.mark.anyio
async def test_broker_stops_while_clients_are_connected_and_starts_again() -> None:
    broker = EmbeddedBroker(host="127.0.0.1", port=free_port())
    await broker.stop()
    for _ in range(2):
        await broker.start()
        subscriber = await _subscriber(broker.port)
        await asyncio.wait_for(broker.stop(), 5)
        await asyncio.to_thread(subscriber.__exit__, None, None, None)


@pytest.mark.anyio
async def test_used_port_is_reported_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    first, second = (
        EmbeddedBroker(host="127.0.0.1", port=port),
        EmbeddedBroker(host="127.0.0.1", port=port),
    )
    await first.start()
    with pytest.raises(AgentError, match=f"cannot listen on 127.0.0.1:{port}.*set another mqtt.port"):
        await second.start()
    await second.stop()
    await first.stop()
    assert [record for record in caplog.records if record.name.startswith("amqtt")] == []


@pytest.mark.anyio
async def test_broker_logs_no_traceback_when_a_client_leaves(caplog: pytest.LogCaptureFixture) -> None:
    codecs = pytest.importorskip("amqtt.codecs_amqtt")
    broker = EmbeddedBroker(host="127.0.0.1", port=free_port())
    await broker.start()
    for message, convert in (("of amqtt", codecs.encode_string), ("of another", _fail)):
        with pytest.raises(AttributeError) as error:
            convert(None)
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error.value})
    await broker.stop()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == ["of another"]


@pytest.mark.anyio
async def test_missing_package_is_reported_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)
    with pytest.raises(AgentError, match=r"pip install 'edge-agent\[demo\]'"):
        await EmbeddedBroker(host="127.0.0.1", port=1883).start()
