"""Stops, kills and silences the broker, and stops the agent: every result arrives."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import wait_until
from faults.archive import Archive
from faults.delivery import up_to
from faults.link import Link
from faults.makers import (
    PER_S,
    PERSISTENT,
    NumberedUploads,
    agent_at,
    last_made,
    mqtt_of,
    settled,
    wait_until_connected,
)
from peers.mosquitto import Mosquitto

if TYPE_CHECKING:
    from pathlib import Path

    from faults.delivery import Place
    from faults.figures import Figures
    from faults.scale import Scale

pytestmark = [pytest.mark.first, pytest.mark.mosquitto, pytest.mark.timeout(400)]

_WITHOUT_PERSISTENCE = "max_queued_messages 0"
_WINDOW = 20
_KEEPALIVE_S = 30
_PROXY, _BROKER, _IDLE = "a proxy drops all data", "the broker is suspended", "a proxy drops all data, no results"


@pytest.mark.parametrize("index", [0, 1])
def test_every_result_arrives_after_the_broker_restarts(
    tmp_path: Path, figures: Figures, scale: Scale, index: int
) -> None:
    durations_s = scale(short=[3], full=[5, 60])
    if index >= len(durations_s):
        pytest.skip("only in the full form")
    outage_s = durations_s[index]
    with (
        Mosquitto(tmp_path, config=PERSISTENT) as broker,
        Archive(broker.port) as archive,
        agent_at(broker.port, tmp_path) as agent,
    ):
        wait_until_connected(agent)
        time.sleep(2)
        broker.stop()
        time.sleep(outage_s)
        broker.start()
        wait_until_connected(agent)
        time.sleep(2)
        delivery = settled(agent, archive, up_to(*last_made(agent)), timeout_s=20 + outage_s)
        agent.end()
    what = f"{PER_S} results/s, broker stopped for {outage_s} s"
    figures(f"{what}: lost results", "0", f"{len(delivery.lost)} of {delivery.count}")
    figures(f"{what}: duplicates", f"at most {_WINDOW} per reconnect", str(delivery.duplicates))
    assert delivery.lost == set()
    assert delivery.duplicates <= _WINDOW
    assert delivery.gaps == []
    assert delivery.flaws == {}


def test_every_unacknowledged_result_arrives_after_a_broker_without_persistence_is_killed(
    tmp_path: Path, figures: Figures, scale: Scale
) -> None:
    kills = scale(short=1, full=10)
    with (
        Mosquitto(tmp_path, config=_WITHOUT_PERSISTENCE) as broker,
        Archive(broker.port) as archive,
        Link(broker.port) as link,
    ):
        link.open()
        link.ack_delay_s = 0.01  # so that some are unacknowledged at the kill
        with agent_at(link.port, tmp_path) as agent:
            for killed in range(kills):
                wait_until_connected(agent)
                time.sleep(1.5)
                broker.kill()
                link.close()
                time.sleep(1)
                broker.start()
                archive.wait_until_subscribed(killed + 2)
                link.open()
            link.ack_delay_s = 0
            wait_until_connected(agent)
            delivery = settled(agent, archive, up_to(*last_made(agent)), timeout_s=20)
            agent.end()
        acknowledged = {_place(payload) for payload in link.acknowledged if b'"seq"' in payload}
    what = f"{PER_S} results/s, broker without persistence killed {kills} times"
    never_acknowledged = delivery.lost - acknowledged
    figures(f"{what}: lost results that it had not acknowledged", "0", f"{len(never_acknowledged)} of {delivery.count}")
    figures(f"{what}: lost results that it had acknowledged", "-", str(len(delivery.lost & acknowledged)))
    figures(f"{what}: duplicates", f"at most {_WINDOW} per reconnect", str(delivery.duplicates))
    assert never_acknowledged == set()
    assert delivery.duplicates <= kills * _WINDOW
    assert delivery.gaps == []
    assert delivery.flaws == {}


@pytest.mark.parametrize("durability", ["spill", "group"])
def test_an_agent_stopped_during_an_outage_delivers_after_its_next_start(
    tmp_path: Path, figures: Figures, scale: Scale, durability: str
) -> None:
    outage_s = scale(short=2, full=20)
    with (
        Mosquitto(tmp_path, config=PERSISTENT) as broker,
        Archive(broker.port) as archive,
        agent_at(broker.port, tmp_path, cameras=0, durability=durability) as agent,
    ):
        wait_until_connected(agent)
        with NumberedUploads(agent) as uploads:
            time.sleep(1)
            broker.stop()
            time.sleep(outage_s)
            took_s = agent.end()
        broker.start()
        agent.restart()
        made = {each.boot: range(1, each.seq + 1) for each in sorted(uploads.made, key=lambda made: made.seq)}
        delivery = settled(agent, archive, made | up_to(*last_made(agent)), timeout_s=20)
        agent.end()
    what = f"{PER_S} results/s, agent stopped {outage_s} s after the broker, {durability}"
    figures(f"{what}: lost results", "0", f"{len(delivery.lost)} of {delivery.count}; stopping took {took_s:.1f} s")
    assert agent.process.returncode == 0
    assert delivery.lost == set()
    assert delivery.duplicates <= _WINDOW
    assert delivery.gaps == []
    assert delivery.flaws == {}


@pytest.mark.parametrize("kind", [_PROXY, _BROKER, _IDLE])
def test_a_half_open_link_is_detected_and_loses_nothing(
    tmp_path: Path, figures: Figures, scale: Scale, kind: str
) -> None:
    if not scale.full and kind != _PROXY:
        pytest.skip("only in the full form")
    cameras = 0 if kind == _IDLE else 1
    with Mosquitto(tmp_path, config=PERSISTENT) as broker, Archive(broker.port) as archive, Link(broker.port) as link:
        link.open()
        with agent_at(link.port, tmp_path, cameras=cameras) as agent:
            wait_until_connected(agent)
            time.sleep(2)
            begun_s = time.monotonic()
            _silence(broker, link, kind)
            wait_until(
                lambda: mqtt_of(agent)["state"] != "connected",
                timeout_s=2 * _KEEPALIVE_S + 10,
                what="the agent knows that the link is dead",
            )
            detected_s = time.monotonic() - begun_s
            time.sleep(scale(short=1, full=max(0.0, 60 - detected_s)))
            _end_silence(broker, link, kind)
            wait_until_connected(agent, timeout_s=40)
            delivery = settled(agent, archive, up_to(*last_made(agent)), timeout_s=60)
            agent.end()
    what = f"half-open link ({kind})"
    figures(f"{what}: detected", "within 45 s (1.5 keep-alive intervals)", f"{detected_s:.1f} s")
    figures(f"{what}: lost results", "0", f"{len(delivery.lost)} of {delivery.count}")
    assert detected_s <= 1.5 * _KEEPALIVE_S
    assert delivery.lost == set()
    assert delivery.duplicates <= 2 * _WINDOW  # a connection attempt may have succeeded late
    assert delivery.gaps == []
    assert delivery.flaws == {}


def _silence(broker: Mosquitto, link: Link, kind: str) -> None:
    if kind == _BROKER:
        broker.pause()
    else:
        link.drops_data = True


def _end_silence(broker: Mosquitto, link: Link, kind: str) -> None:
    if kind == _BROKER:
        broker.resume()
    else:
        link.close()
        link.drops_data = False
        link.open()


def _place(payload: bytes) -> Place:
    result = json.loads(payload)
    return result["boot"], result["seq"]
