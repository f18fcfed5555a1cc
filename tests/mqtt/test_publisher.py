from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from agents.mqtt_publisher import mqtt_publisher
from peers.mosquitto import Mosquitto, free_port
from peers.scripted_broker import ScriptedBroker
from peers.subscriber import Subscriber, until

import agent
from agent.classification import (
    Category,
    Classification,
    ModelIdentity,
    Result,
    StableState,
    Timing,
)
from agent.inference.results import Results
from agent.mqtt.link.endpoint import Timeouts
from agent.mqtt.outbox.outbox import OutboxStatus
from agent.mqtt.outbox.storage import Storage
from agent.mqtt.session import MqttStatus
from agent.status import CameraStatus, ModelStatus, Rejection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.mqtt.publisher import MqttPublisher

_BASE = "edge-agent/pi-1"
_BIRDS = ModelIdentity(name="birds", version=7, sha256="0" * 64)
_SINCE_NS = 1_700_000_000_000_000_000


class Camera:
    """Gives numbered results."""

    def __init__(self, name: str = "front") -> None:
        self._name = name
        self._log = Results(device="pi-1")
        self.boot = self._log.boot

    def result(self, label: str | None = "robin") -> Result:
        categories = () if label is None else (Category(3, label, 0.93), Category(4, "wren", 0.05))
        classification = Classification(_BIRDS, categories, Timing(0.0, 1.1, 1.7, 3.3))
        return self._log.record(classification, source=self._name, captured_ns=1_700_000_000_123_456_789)


@asynccontextmanager
async def _started(port: int, **options: Any) -> AsyncIterator[MqttPublisher]:
    publisher = mqtt_publisher(port, **options)
    task = asyncio.create_task(publisher.run())
    publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close(5)
        task.cancel()


async def _until_connected(publisher: MqttPublisher) -> None:
    await until(lambda: publisher.status.state == "connected")


async def _until_delivered(publisher: MqttPublisher) -> None:
    await until(lambda: publisher.status.outbox.messages == 0)


async def _acknowledge_online_and_info(broker: ScriptedBroker) -> None:
    await until(lambda: len(broker.published) == 2)
    for message in broker.published:
        broker.acknowledge(message)


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_online_and_info_are_retained_and_offline_follows_a_clean_stop(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with _started(broker.port) as publisher:
            await until(lambda: live.of("/info"))
            assert live.payloads("/status") == ["online"]
            with Subscriber(broker.port) as late:
                await until(lambda: len(late.retained()) == 2)
                assert late.retained()[f"{_BASE}/status"] == "online"
                assert late.of("/info")[0].json == {"version": "0.1.0"}
            await publisher.close(5)
        await until(lambda: live.payloads("/status") == ["online", "offline"])
        with Subscriber(broker.port) as late:
            await until(lambda: late.retained().get(f"{_BASE}/status") == "offline")
    assert "Received DISCONNECT from pi-1" in broker.log


@pytest.mark.mosquitto
def test_broker_says_offline_for_an_agent_that_is_killed(tmp_path: Path) -> None:
    program = """
import asyncio
from agents.mqtt_publisher import mqtt_publisher

async def run():
    mqtt_publisher({port}).start()
    await asyncio.Event().wait()

asyncio.run(run())
"""
    repository = Path(str(agent.__file__)).parents[1]

    async def scenario() -> None:
        with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
            process = subprocess.Popen(  # noqa: ASYNC220  (the loop has nothing else to do meanwhile)
                [sys.executable, "-c", program.replace("{port}", str(broker.port))],
                env={**os.environ, "PYTHONPATH": f"{repository}:{repository / 'tests'}"},
            )
            await until(lambda: live.payloads("/status") == ["online"], timeout_s=30)
            process.kill()
            process.wait()
            await until(lambda: live.payloads("/status") == ["online", "offline"])
            with Subscriber(broker.port) as late:
                await until(lambda: late.retained().get(f"{_BASE}/status") == "offline")

    asyncio.run(scenario())


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_results_of_an_outage_arrive_afterwards_once_each_and_in_order(tmp_path: Path) -> None:
    """The broker keeps the subscriber's session on disk: who is back first does not matter."""
    camera = Camera()
    made: list[str] = []

    def publish(publisher: MqttPublisher, count: int) -> None:
        for _ in range(count):
            result = camera.result()
            made.append(result.id)
            publisher.classified(result)

    broker = Mosquitto(tmp_path, config="persistence true\nmax_queued_messages 0")
    with broker:
        async with _started(broker.port) as publisher:
            with Subscriber(broker.port, client_id="reader") as before:
                publish(publisher, 30)
                await until(lambda: len(before.of("/result")) == 30)
            await _until_delivered(publisher)
            await until(lambda: "Received DISCONNECT from reader" in broker.log)
            broker.stop()
            await until(lambda: publisher.status.state == "unreachable")
            publish(publisher, 70)
            assert publisher.status.outbox.messages == 70
            broker.start()
            await _until_delivered(publisher)
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
async def test_a_broker_that_takes_two_messages_at_a_time_gets_the_backlog_too(tmp_path: Path) -> None:
    camera, storage = Camera(), Storage(tmp_path / "outbox")
    earlier = mqtt_publisher(free_port(), storage=storage)
    for _ in range(30):
        earlier.classified(camera.result())
    await earlier.close(0.1)
    with Mosquitto(tmp_path, config="max_inflight_messages 2") as broker, Subscriber(broker.port) as live:
        async with _started(broker.port, storage=storage, boot="01M8BBBBBBBBBBBBBBBBBBBBBB"):
            await until(lambda: len(live.of("/front/result")) == 30)
            assert all(message.json["replayed"] for message in live.of("/front/result"))


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_retained_topics_are_published_again_to_a_broker_that_forgot_them(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with broker:
        async with _started(broker.port) as publisher:
            await _until_connected(publisher)
            publisher.camera_changed("front", CameraStatus("online"))
            publisher.camera_changed("door", CameraStatus("online"))
            publisher.model_changed(ModelStatus("birds", serving=_BIRDS, since_ns=0))
            broker.kill()
            await until(lambda: publisher.status.state == "unreachable")
            publisher.camera_changed("door", CameraStatus("lost", "Plug it in."))
            broker.start()
            with Subscriber(broker.port) as live:
                await until(lambda: len(live.topics()) == 7)
            with Subscriber(broker.port) as late:
                await until(lambda: len(late.retained()) == 7)
                assert late.retained()[f"{_BASE}/status"] == "online"
                assert late.retained()[f"{_BASE}/cameras/front/status"] == "online"
                assert late.retained()[f"{_BASE}/cameras/door/status"] == "lost"
                assert late.retained()[f"{_BASE}/cameras/door/enabled"] == "ON"
                assert late.of("/models/birds")[0].json["serving"]["version"] == "7"
                assert late.of("/info")


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_state_is_retained_as_json_and_as_the_bare_label(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with _started(broker.port) as publisher:
            publisher.state_changed("front", StableState("Kohlmeise ä", 0.91234, _SINCE_NS, _BIRDS))
            await until(lambda: live.of("/cameras/front/classification/birds"))
            assert live.of("/cameras/front/state")[0].json == {
                "label": "Kohlmeise ä",
                "score": 0.9123,
                "since": "2023-11-14T22:13:20.000Z",
                "model": {"name": "birds", "version": "7", "sha256": "0" * 64},
            }
            publisher.state_changed("front", StableState(None, None, _SINCE_NS, _BIRDS))
            await until(lambda: len(live.of("/classification/birds")) == 2)
            assert live.payloads("/classification/birds") == ["Kohlmeise ä", "none"]
            assert live.of("/state")[1].json["label"] is None
            with Subscriber(broker.port) as late:
                topic = f"{_BASE}/cameras/front/classification/birds"
                await until(lambda: late.retained().get(topic) == "none")


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_model_of_which_nothing_is_left_takes_its_topic_with_it(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with _started(broker.port) as publisher:
            await _until_connected(publisher)
            for name in ("birds", "cats"):
                publisher.model_changed(ModelStatus(name, serving=_BIRDS, since_ns=0))
            publisher.model_changed(ModelStatus("birds"))
            await until(lambda: live.payloads("/models/birds")[-1:] == [""])
            await until(lambda: f"{_BASE}/models/birds" not in publisher._retained._payloads)
            with Subscriber(broker.port) as late:
                await until(lambda: late.of("/models/cats"))
                assert late.of("/models/birds") == []


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_model_that_goes_while_the_broker_is_away_takes_its_topic_with_it_later(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        publisher = mqtt_publisher(broker.port)
        publisher.model_changed(ModelStatus("birds"))
        publisher.start()
        await until(lambda: live.payloads("/models/birds") == [""])
        await publisher.close(5)


@pytest.mark.anyio
@pytest.mark.mosquitto
@pytest.mark.parametrize("name", ["a/b", "a+b", "a#b", "a\0b", "a\nb", "a\x85b", "a\udcffb", "a\ufffeb"])
async def test_model_names_that_no_topic_may_hold_are_made_safe(tmp_path: Path, name: str) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with _started(broker.port) as publisher:
            await _until_connected(publisher)
            publisher.model_changed(ModelStatus(name, rejection=Rejection(f"{name}.tflite", "No labels.", 0)))
            await until(lambda: live.of(f"{_BASE}/models/a_b"))
            assert live.of("/models/a_b")[0].json["rejection"]["file"] == f"{name}.tflite"
            assert publisher.status.state == "connected"


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_only_changes_of_each_cameras_best_label_are_published_but_every_upload(tmp_path: Path) -> None:
    front, door, upload = Camera("front"), Camera("door"), Camera("upload")
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with _started(broker.port, results="changes") as publisher:
            for label in (None, "robin", "robin", "wren", "wren", None, None, "robin"):
                publisher.classified(front.result(label))
                publisher.classified(door.result("cat"))
                publisher.classified(upload.result("dog"))
            await _until_delivered(publisher)
            await until(lambda: len(live.of("/uploads/result")) == 8)
            assert [message.json["seq"] for message in live.of("/front/result")] == [1, 2, 4, 6, 8]
            assert [message.json["seq"] for message in live.of("/door/result")] == [1]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_results_can_be_switched_off_while_states_go_on(tmp_path: Path) -> None:
    camera = Camera()
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with _started(broker.port, results="off") as publisher:
            publisher.classified(camera.result())
            publisher.classified(camera.result())
            assert publisher.status.outbox.messages == 0
            publisher.state_changed("front", StableState("robin", 0.9, 0, _BIRDS))
            await until(lambda: live.of("/classification/birds"))
            assert live.of("/result") == []


@pytest.mark.anyio
async def test_no_more_than_twenty_results_go_without_an_acknowledgement() -> None:
    camera = Camera()
    async with ScriptedBroker() as broker, _started(broker.port) as publisher:
        await _acknowledge_online_and_info(broker)
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
async def test_unacknowledged_results_go_again_once_after_a_reconnect() -> None:
    camera = Camera()
    async with ScriptedBroker() as broker, _started(broker.port) as publisher:
        await _acknowledge_online_and_info(broker)
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
        await _until_delivered(publisher)
        again = [message.json["seq"] for message in broker.results() if message.connection == 2]
        assert again == [6, 2, 3, 4, 5], "what is made now does not wait"


@pytest.mark.anyio
async def test_close_keeps_its_time_while_no_broker_is_there(caplog: pytest.LogCaptureFixture) -> None:
    publisher = mqtt_publisher(free_port())
    publisher.start()
    publisher.classified(Camera().result())
    await until(lambda: publisher.status.state == "unreachable")
    began = time.monotonic()
    await publisher.close(0.3)
    assert time.monotonic() - began < 0.5
    assert "1 results were never acknowledged by the MQTT broker" in caplog.text


@pytest.mark.anyio
async def test_close_keeps_its_time_while_the_broker_acknowledges_nothing() -> None:
    async with ScriptedBroker() as broker:
        publisher = mqtt_publisher(broker.port)
        publisher.start()
        await _until_connected(publisher)
        began = time.monotonic()
        await publisher.close(0.3)
        assert 0.25 < time.monotonic() - began < 0.6
        await until(lambda: broker.published[-1].payload == "offline")


@pytest.mark.anyio
async def test_nothing_follows_offline_but_what_was_sent_before_may_be_acknowledged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    camera = Camera()
    async with ScriptedBroker() as broker:
        publisher = mqtt_publisher(broker.port)
        publisher.start()
        await _acknowledge_online_and_info(broker)
        for _ in range(30):
            publisher.classified(camera.result())
        await until(lambda: len(broker.results()) == 20)
        closing = asyncio.create_task(publisher.close(30))
        await until(lambda: not publisher._session.outbox._writer.connected)
        broker.acknowledge(broker.results()[0])  # offline is one more, and waits for its place
        await until(lambda: broker.published[-1].payload == "offline")
        for message in broker.published[3:]:
            broker.acknowledge(message)
        await asyncio.wait_for(closing, 5)
        assert len(broker.results()) == 20
    assert "10 results were never acknowledged" in caplog.text


@pytest.mark.anyio
async def test_close_does_not_wait_for_a_broker_that_goes_meanwhile() -> None:
    async with ScriptedBroker() as broker:
        publisher = mqtt_publisher(broker.port)
        publisher.start()
        await _until_connected(publisher)
        asyncio.get_running_loop().call_soon(broker.hang_up)
        await asyncio.wait_for(publisher.close(30), 3)


@pytest.mark.anyio
async def test_status_is_shown_as_json() -> None:
    async with ScriptedBroker() as broker:
        publisher = mqtt_publisher(broker.port, timeouts=Timeouts(first_retry_s=30))
        assert publisher.status == MqttStatus("connecting", None, None, OutboxStatus(0, 0, 0, None))
        publisher.start()
        await _until_connected(publisher)
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
