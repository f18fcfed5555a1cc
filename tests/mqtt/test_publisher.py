from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents.mqtt_publisher import (
    BIRDS,
    NO_ACTIONS,
    Camera,
    mqtt_publisher,
    started,
    until_connected,
    until_delivered,
    until_subscribed,
)
from agents.spots import unnamed
from events.made import an_event
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber, until

import agent
from agent.classification import Spot, StableState
from agent.errors import ProfileNotFoundError
from agent.mqtt.message import topic_level
from agent.status import CameraHealth, CameraStatus, ModelStatus, ProfileStatus, Rejection

if TYPE_CHECKING:
    from agent.mqtt.publisher import MqttPublisher

_BASE = "edge-agent/pi-1"
_SINCE_NS = 1_700_000_000_000_000_000


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_online_and_info_are_retained_and_offline_is_published_on_a_clean_stop(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port) as publisher:
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


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_broker_publishes_offline_when_the_agent_is_killed(tmp_path: Path) -> None:
    program = """
import asyncio
from agents.mqtt_publisher import mqtt_publisher

async def run():
    mqtt_publisher({port}).start()
    await asyncio.Event().wait()

asyncio.run(run())
"""
    repository = Path(str(agent.__file__)).parents[1]
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        process = subprocess.Popen(  # noqa: ASYNC220  (the loop has nothing else to do)
            [sys.executable, "-c", program.replace("{port}", str(broker.port))],
            env={**os.environ, "PYTHONPATH": f"{repository}:{repository / 'tests'}"},
        )
        await until(lambda: live.payloads("/status") == ["online"], timeout_s=30)
        process.kill()
        process.wait()
        await until(lambda: live.payloads("/status") == ["online", "offline"])
        with Subscriber(broker.port) as late:
            await until(lambda: late.retained().get(f"{_BASE}/status") == "offline")


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_retained_topics_are_published_again_when_the_broker_lost_them(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with broker:
        async with started(broker.port) as publisher:
            await until_connected(publisher)
            publisher.cameras_configured(unnamed("front", "door"))
            publisher.camera_changed("front", CameraStatus("online"))
            publisher.camera_changed("door", CameraStatus("online"))
            publisher.model_changed(ModelStatus("birds", serving=BIRDS, since_ns=0))
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
async def test_events_of_all_views_are_on_the_topic_of_the_camera_and_not_queued(tmp_path: Path) -> None:
    before, door, front = (an_event(spot=Spot("front", view)) for view in ("gate", "door", None))
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port) as publisher:
            publisher.event(before)  # not connected yet
            await until_connected(publisher)
            publisher.event(door)
            publisher.event(front)
            await until(lambda: len(live.of("/event")) == 2)
            assert {message.topic for message in live.of("/event")} == {f"{_BASE}/cameras/front/event"}
            assert [message.json for message in live.of("/event")] == [door.to_json(), front.to_json()]
        with Subscriber(broker.port) as late:
            await until(late.retained)
            assert late.of("/event") == []


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_state_is_retained_as_json_and_as_a_plain_label(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port) as publisher:
            publisher.state_changed(Spot("front"), StableState("Kohlmeise ä", 0.91234, _SINCE_NS, BIRDS))
            await until(lambda: live.of("/cameras/front/classification/birds"))
            assert live.of("/cameras/front/state")[0].json == {
                "label": "Kohlmeise ä",
                "score": 0.9123,
                "since": "2023-11-14T22:13:20.000Z",
                "model": {"name": "birds", "version": "7", "sha256": "0" * 64},
            }
            publisher.state_changed(Spot("front"), StableState(None, None, _SINCE_NS, BIRDS))
            await until(lambda: len(live.of("/classification/birds")) == 2)
            assert live.payloads("/classification/birds") == ["Kohlmeise ä", "none"]
            assert live.of("/state")[1].json["label"] is None
            with Subscriber(broker.port) as late:
                topic = f"{_BASE}/cameras/front/classification/birds"
                await until(lambda: late.retained().get(topic) == "none")


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_topic_of_a_forgotten_model_is_removed(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port) as publisher:
            await until_connected(publisher)
            for name in ("birds", "cats"):
                publisher.model_changed(ModelStatus(name, serving=BIRDS, since_ns=0))
            publisher.model_changed(ModelStatus("birds"))
            await until(lambda: live.payloads("/models/birds")[-1:] == [""])
            with Subscriber(broker.port) as late:
                await until(lambda: late.of("/models/cats"))
                assert late.of("/models/birds") == []


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_topic_of_a_model_forgotten_while_offline_is_removed_later(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        publisher = mqtt_publisher(broker.port)
        publisher.model_changed(ModelStatus("birds"))
        publisher.start()
        await until(lambda: live.payloads("/models/birds") == [""])
        await publisher.close(5)


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_models_with_similar_names_have_their_own_topics_when_characters_are_replaced(tmp_path: Path) -> None:
    names = ["a_b", "a/b", "a+b", "a#b", "a\0b", "a\nb", "a\x85b", "a\udcffb", "a\ufffeb"]
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port) as publisher:
            await until_connected(publisher)
            for name in names:
                publisher.model_changed(ModelStatus(name, rejection=Rejection(f"{name}.tflite", "No labels.", 0)))
                publisher.state_changed(Spot("front"), StableState("x", 0.9, 0, replace(BIRDS, name=name)))
            await until(lambda: len(_below(live, "models")) == len(names))
            await until(lambda: len(_below(live, "cameras/front/classification")) == len(names))
            files = [live.of(f"/models/{level}")[0].json["rejection"]["file"] for level in _below(live, "models")]
            assert sorted(files) == sorted(f"{name}.tflite" for name in names)
            assert live.of("/models/a_b")[0].json["rejection"]["file"] == "a_b.tflite", "the plain topic"
            assert _below(live, "models") == _below(live, "cameras/front/classification")
            assert publisher.status.state == "connected"


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_topics_of_models_with_similar_names_outlast_a_restart_and_the_removal_of_one(tmp_path: Path) -> None:
    def drop(publisher: MqttPublisher, *names: str) -> None:
        for name in names:
            publisher.model_changed(ModelStatus(name, rejection=Rejection(f"{name}.tflite", "No labels.", 0)))

    changed = f"{_BASE}/models/{topic_level('a+b')}"
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port, topics=f"{_BASE}/models/+") as live:
        async with started(broker.port) as publisher:
            drop(publisher, "a_b", "a+b")
            await until(lambda: live.topics() == {f"{_BASE}/models/a_b", changed})
        async with started(broker.port, boot="01M8BBBBBBBBBBBBBBBBBBBBBB") as publisher:
            drop(publisher, "a+b", "a_b")
            await until(lambda: len(live.of("")) == 4)
            assert live.topics() == {f"{_BASE}/models/a_b", changed}
            publisher.model_changed(ModelStatus("a_b"))
            await until(lambda: live.payloads("/a_b")[-1:] == [""])
            with Subscriber(broker.port, topics=f"{_BASE}/models/+") as late:
                await until(late.retained)
                assert list(late.retained()) == [changed]


def _below(live: Subscriber, parent: str) -> set[str]:
    topics = (topic.removeprefix(f"{_BASE}/{parent}/") for topic in live.topics() if f"/{parent}/" in topic)
    return {level for level in topics if "/" not in level}


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_results_changes_publishes_each_new_best_label_and_every_upload(tmp_path: Path) -> None:
    front, door, upload = Camera("front"), Camera("door"), Camera("upload")
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port, results="changes") as publisher:
            for label in (None, "robin", "robin", "wren", "wren", None, None, "robin"):
                publisher.classified(front.result(label))
                publisher.classified(door.result("cat"))
                publisher.classified(upload.result("dog"))
            await until_delivered(publisher)
            await until(lambda: len(live.of("/uploads/result")) == 8)
            assert [message.json["seq"] for message in live.of("/front/result")] == [1, 2, 4, 6, 8]
            assert [message.json["seq"] for message in live.of("/door/result")] == [1]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_results_off_still_publishes_states(tmp_path: Path) -> None:
    camera = Camera()
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port, results="off") as publisher:
            publisher.classified(camera.result())
            publisher.classified(camera.result())
            assert publisher.status.outbox.messages == 0
            publisher.state_changed(Spot("front"), StableState("robin", 0.9, 0, BIRDS))
            await until(lambda: live.of("/classification/birds"))
            assert live.of("/result") == []


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_enabled_follows_the_status_that_a_command_changes(tmp_path: Path) -> None:
    def switch(camera: str, enabled: bool) -> None:  # noqa: FBT001  (as Cameras.switch, announces the status)
        publisher.camera_changed(camera, CameraStatus("starting" if enabled else "disabled"))

    actions = replace(NO_ACTIONS, set_enabled=switch)
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port, actions=actions) as publisher:
            publisher.cameras_configured(unnamed("front", "door"))
            publisher.camera_changed("door", CameraStatus("starting"))
            publisher.camera_changed("front", CameraStatus("disabled"))
            await until(lambda: live.payloads("/door/enabled") == ["ON"])
            await until(lambda: live.payloads("/front/enabled"))
            assert live.payloads("/front/enabled") == ["OFF"]
            live.publish(f"{_BASE}/cameras/front/enabled/set", b"ON")
            await until(lambda: live.payloads("/front/enabled") == ["OFF", "ON"])
            live.publish(f"{_BASE}/cameras/door/enabled/set", b"OFF")
            await until(lambda: live.payloads("/door/enabled") == ["ON", "OFF"])
            assert live.payloads("/front/status") == ["disabled", "starting"]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_reference_is_taken_again_at_a_command_that_is_not_retained(tmp_path: Path) -> None:
    taken: list[str] = []

    def retake(camera: str) -> bool:
        taken.append(camera)
        return camera == "front"

    topic = f"{_BASE}/cameras/front/reference/set"
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        live.publish(topic, b"TAKE", retain=True)
        await until(lambda: live.payloads(topic) == ["TAKE"])
        async with started(broker.port, actions=replace(NO_ACTIONS, retake_reference=retake)):
            await until_subscribed(live)
            live.publish(topic, b"anything")
            live.publish(f"{_BASE}/cameras/x/reference/set", b"TAKE")
            live.publish(topic, b"TAKE")
            await until(lambda: "front" in taken)
            assert taken == ["x", "front"]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_health_is_retained_until_it_is_not_judged_any_more(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port) as publisher:
            publisher.camera_health_changed("door", None)
            publisher.camera_health_changed("front", CameraHealth("moved", "Turn it back."))
            await until(lambda: live.payloads("/front/health") == ["moved"])
            publisher.camera_health_changed("front", None)
            await until(lambda: live.payloads("/front/health") == ["moved", ""])
            assert live.payloads("/door/health") == []


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_health_of_an_earlier_run_is_removed_when_it_is_not_judged_any_more(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        for camera in ("front", "door"):
            live.publish(f"{_BASE}/cameras/{camera}/health", b"moved", retain=True)
        async with started(broker.port) as publisher:
            publisher.camera_health_changed("door", None)
            await until(lambda: live.payloads("/door/health") == ["moved", ""])
            assert live.payloads("/front/health") == ["moved"]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_retained_topics_of_a_camera_are_removed_with_it(tmp_path: Path) -> None:
    parts = ("state", "status", "enabled", "health", "classification/birds")
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port) as publisher:
            publisher.cameras_configured(unnamed("front", "door"))
            for camera in ("front", "door"):
                publisher.camera_changed(camera, CameraStatus("online"))
                publisher.camera_health_changed(camera, CameraHealth("ok"))
                publisher.state_changed(Spot(camera), StableState("robin", 0.9, 0, BIRDS))
            await until(lambda: all(live.payloads(f"/{camera}/{parts[-1]}") for camera in ("front", "door")))
            publisher.cameras_configured(unnamed("door"))
            publisher.state_changed(Spot("front"), StableState("wren", 0.9, 0, BIRDS))  # its last frame
            await until(lambda: all(live.payloads(f"/front/{part}")[-1:] == [""] for part in parts))
            assert all(live.payloads(f"/door/{part}")[-1] for part in parts)


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_profile_is_chosen_by_a_command_and_shown_while_there_are_profiles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def choose(choice: str) -> None:
        if choice == "day":
            raise ProfileNotFoundError("Profile day does not exist.")
        publisher.profile_changed(ProfileStatus(choice, choice, ("night",)))

    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port, actions=replace(NO_ACTIONS, choose_profile=choose)) as publisher:
            publisher.profile_changed(ProfileStatus(None, "auto", ()))
            await until_subscribed(live)
            for choice in (b"day", b"\xff", b" night\n"):
                live.publish(f"{_BASE}/profile/set", choice)
            await until(lambda: len(live.payloads("/profile")) == 2)
            assert json.loads(live.payloads("/profile")[1]) == {
                "active": "night",
                "chosen": "night",
                "profiles": ["night"],
            }
            publisher.profile_changed(ProfileStatus(None, "auto", ()))
            await until(lambda: live.payloads("/profile")[-1] == "")
    assert f"Ignored a command on {_BASE}/profile/set: Profile day does not exist." in caplog.messages
