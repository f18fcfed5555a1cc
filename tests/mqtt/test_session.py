from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from agents.mqtt_publisher import (
    Camera,
    acknowledge_online_and_info,
    mqtt_publisher,
    started,
    until_connected,
    until_delivered,
)
from peers.mosquitto import Mosquitto, free_port
from peers.scripted_broker import ScriptedBroker
from peers.subscriber import Subscriber, until

from agent.mqtt.link.endpoint import Timeouts
from agent.mqtt.outbox.outbox import OutboxStatus
from agent.mqtt.outbox.storage import Storage
from agent.mqtt.session import MqttStatus

if TYPE_CHECKING:
    from pathlib import Path

    from agent.mqtt.publisher import MqttPublisher


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_results_of_an_outage_arrive_once_and_in_order_after_it(tmp_path: Path) -> None:
    """The broker keeps the subscriber's session on disk, so the order of the reconnects does not matter."""
    camera = Camera()
    made: list[str] = []

    def publish(publisher: MqttPublisher, count: int) -> None:
        for _ in range(count):
            result = camera.result()
            made.append(result.id)
            publisher.classified(result)

    broker = Mosquitto(tmp_path, config="persistence true\nmax_queued_messages 0")
    with broker:
        async with started(broker.port) as publisher:
            with Subscriber(broker.port, client_id="reader") as before:
                publish(publisher, 30)
                await until(lambda: len(before.of("/result")) == 30)
            await until_delivered(publisher)
            await until(lambda: "Received DISCONNECT from reader" in broker.log)
            broker.stop()
            await until(lambda: publisher.status.state == "unreachable")
            publish(publisher, 70)
            assert publisher.status.outbox.messages == 70
            broker.start()
            await until_delivered(publisher)
            with Subscriber(broker.port, client_id="reader") as after:
                await until(lambda: len(after.of("/result")) >= 70)
                received = [message.json for message in [*before.of("/result"), *after.of("/result")]]
    assert [document["id"] for document in received] == made
    assert [document["seq"] for document in received] == list(range(1, 101))
    assert received[0] | {"id": ""} == {
        "id": "",
        "seq": 1,
        "boot": camera.boot,
        "device": "pi-1",
        "source": "front",
        "captured_at": "2023-11-14T22:13:20.123Z",
        "model": {"name": "birds", "version": "7", "sha256": "0" * 64},
        "categories": [
            {"index": 3, "label": "robin", "score": 0.93},
            {"index": 4, "label": "wren", "score": 0.05},
        ],
        "timing_ms": {"decode": 0.0, "preprocess": 1.1, "invoke": 1.7, "total": 3.3},
    }


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_backlog_is_delivered_to_a_broker_that_accepts_two_messages_at_a_time(tmp_path: Path) -> None:
    camera, storage = Camera(), Storage(tmp_path / "outbox")
    earlier = mqtt_publisher(free_port(), storage=storage)
    for _ in range(30):
        earlier.classified(camera.result())
    await earlier.close(0.1)
    with Mosquitto(tmp_path, config="max_inflight_messages 2") as broker, Subscriber(broker.port) as live:
        async with started(broker.port, storage=storage, boot="01M8BBBBBBBBBBBBBBBBBBBBBB"):
            await until(lambda: len(live.of("/front/result")) == 30)
            assert all(message.json["replayed"] for message in live.of("/front/result"))


@pytest.mark.anyio
async def test_at_most_twenty_results_are_in_flight() -> None:
    camera = Camera()
    async with ScriptedBroker() as broker, started(broker.port) as publisher:
        await acknowledge_online_and_info(broker)
        for _ in range(100):
            publisher.classified(camera.result())
        assert publisher.status.outbox.messages == 100
        await until(lambda: len(broker.results()) >= 20)
        for done in range(100):
            assert len(broker.results()) == min(100, done + 20)
            broker.acknowledge(broker.results()[done])
            await until(partial(_is_queued, publisher, 99 - done))
            await until(partial(_has_results, broker, min(100, done + 21)))
        assert [message.json["seq"] for message in broker.results()] == list(range(1, 101))
        broker.acknowledges = True


def _is_queued(publisher: MqttPublisher, count: int) -> bool:
    return publisher.status.outbox.messages == count


def _has_results(broker: ScriptedBroker, count: int) -> bool:
    return len(broker.results()) >= count


@pytest.mark.anyio
async def test_unacknowledged_results_are_sent_again_after_a_reconnect() -> None:
    camera = Camera()
    async with ScriptedBroker() as broker, started(broker.port) as publisher:
        await acknowledge_online_and_info(broker)
        for _ in range(5):
            publisher.classified(camera.result())
        await until(lambda: len(broker.results()) == 5)
        broker.acknowledge(broker.results()[0])
        await until(lambda: publisher.status.outbox.messages == 4)
        broker.hang_up()
        await until(lambda: broker.connections == 2)
        publisher.classified(camera.result())
        broker.acknowledges = True
        await until(lambda: len(broker.results()) == 10)
        for message in [m for m in broker.published if m.connection == 2]:
            broker.acknowledge(message)
        await until_delivered(publisher)
        again = [message.json["seq"] for message in broker.results() if message.connection == 2]
        assert again == [6, 2, 3, 4, 5], "a new result does not wait"


@pytest.mark.anyio
async def test_close_keeps_its_timeout_while_no_broker_is_reachable(caplog: pytest.LogCaptureFixture) -> None:
    publisher = mqtt_publisher(free_port())
    publisher.start()
    publisher.classified(Camera().result())
    await until(lambda: publisher.status.state == "unreachable")
    began = time.monotonic()
    await publisher.close(0.3)
    assert time.monotonic() - began < 0.5
    assert "1 results were not acknowledged by the MQTT broker" in caplog.text


@pytest.mark.anyio
async def test_close_keeps_its_timeout_while_the_broker_acknowledges_nothing() -> None:
    async with ScriptedBroker() as broker:
        publisher = mqtt_publisher(broker.port)
        publisher.start()
        await until_connected(publisher)
        began = time.monotonic()
        await publisher.close(0.3)
        assert 0.25 < time.monotonic() - began < 0.6
        await until(lambda: broker.published[-1].payload == "offline")


@pytest.mark.anyio
async def test_nothing_follows_offline_but_earlier_results_may_still_be_acknowledged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    camera = Camera()
    async with ScriptedBroker() as broker:
        publisher = mqtt_publisher(broker.port)
        publisher.start()
        await acknowledge_online_and_info(broker)
        for _ in range(30):
            publisher.classified(camera.result())
        await until(lambda: len(broker.results()) == 20)
        closing = asyncio.create_task(publisher.close(30))
        await asyncio.sleep(0.6)  # close() sends results for half a second
        broker.acknowledge(broker.results()[0])  # offline needs a place in the window
        await until(lambda: broker.published[-1].payload == "offline")
        for message in broker.published[3:]:
            broker.acknowledge(message)
        await asyncio.wait_for(closing, 5)
        assert len(broker.results()) == 20
    assert "10 results were not acknowledged" in caplog.text


@pytest.mark.anyio
async def test_close_does_not_wait_when_the_broker_disconnects() -> None:
    async with ScriptedBroker() as broker:
        publisher = mqtt_publisher(broker.port)
        publisher.start()
        await until_connected(publisher)
        asyncio.get_running_loop().call_soon(broker.hang_up)
        await asyncio.wait_for(publisher.close(30), 3)


@pytest.mark.anyio
async def test_status_is_converted_to_json() -> None:
    async with ScriptedBroker() as broker:
        publisher = mqtt_publisher(broker.port, timeouts=Timeouts(first_retry_s=30))
        assert publisher.status == MqttStatus("connecting", None, None, OutboxStatus(0, 0, 0, None))
        publisher.start()
        await until_connected(publisher)
        assert publisher.status.to_json() == {
            "state": "connected",
            "reason": None,
            "protocol": "5",
            "queued": 0,
            "dropped": 0,
            "outbox_trouble": None,
        }
        broker.hang_up()
        await until(lambda: publisher.status.state == "unreachable")
        await publisher.close(1)
