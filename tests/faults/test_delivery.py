"""The broker goes, by its own will, by force or into silence, and the agent goes too: every result arrives."""

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

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(400)]

_FORGETFUL = "max_queued_messages 0"
_WINDOW = 20
_KEEPALIVE_S = 30
_DRAINS_PER_S = 250


@pytest.mark.parametrize("index", [0, 1])
def test_a_broker_that_stops_and_comes_back_gets_everything(
    tmp_path: Path, figures: Figures, scale: Scale, index: int
) -> None:
    durations_s = scale(short=[3], full=[5, 60])
    if index >= len(durations_s):
        pytest.skip("of the full form")
    away_s = durations_s[index]
    with (
        Mosquitto(tmp_path, config=PERSISTENT) as broker,
        Archive(broker.port) as archive,
        agent_at(broker.port, tmp_path) as agent,
    ):
        wait_until_connected(agent)
        time.sleep(2)
        broker.stop()
        time.sleep(away_s)
        broker.start()
        wait_until_connected(agent)
        time.sleep(2)
        delivery = settled(agent, archive, up_to(*last_made(agent)), timeout_s=20 + away_s)
        agent.end()
    what = f"{PER_S} results/s, broker stopped for {away_s} s"
    figures(f"{what}: lost", "0", f"{len(delivery.lost)} of {delivery.count}")
    figures(f"{what}: duplicates", "at most 20 a reconnect", str(delivery.duplicates))
    assert delivery.lost == set()
    assert delivery.duplicates <= _WINDOW
    assert delivery.gaps == []
    assert delivery.flaws == {}


def test_a_broker_that_is_killed_and_forgets_gets_everything_that_it_did_not_acknowledge(
    tmp_path: Path, figures: Figures, scale: Scale
) -> None:
    kills = scale(short=1, full=10)
    with Mosquitto(tmp_path, config=_FORGETFUL) as broker, Archive(broker.port) as archive, Link(broker.port) as link:
        link.open()
        link.ack_delay_s = 0.01  # so that some are under way
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
    what = f"{PER_S} results/s, broker killed {kills} times, nothing of it kept"
    never_acknowledged = delivery.lost - acknowledged
    figures(f"{what}: lost of what it had not acknowledged", "0", f"{len(never_acknowledged)} of {delivery.count}")
    figures(f"{what}: acknowledged and then forgotten by it", "-", str(len(delivery.lost & acknowledged)))
    figures(f"{what}: duplicates", f"at most {_WINDOW} a reconnect", str(delivery.duplicates))
    assert never_acknowledged == set()
    assert delivery.duplicates <= kills * _WINDOW
    assert delivery.gaps == []
    assert delivery.flaws == {}


@pytest.mark.parametrize("durability", ["spill", "group"])
def test_an_agent_that_is_stopped_in_an_outage_delivers_at_its_next_start(
    tmp_path: Path, figures: Figures, scale: Scale, durability: str
) -> None:
    away_s = scale(short=2, full=20)
    with (
        Mosquitto(tmp_path, config=PERSISTENT) as broker,
        Archive(broker.port) as archive,
        agent_at(broker.port, tmp_path, cameras=0, durability=durability) as agent,
    ):
        wait_until_connected(agent)
        with NumberedUploads(agent) as uploads:
            time.sleep(1)
            broker.stop()
            time.sleep(away_s)
            took_s = agent.end()
        broker.start()
        agent.restart()
        made = {each.boot: range(1, each.seq + 1) for each in sorted(uploads.made, key=lambda made: made.seq)}
        delivery = settled(agent, archive, made | up_to(*last_made(agent)), timeout_s=20)
        agent.end()
    what = f"{PER_S} results/s, agent stopped {away_s} s after the broker, {durability}"
    figures(f"{what}: lost", "0", f"{len(delivery.lost)} of {delivery.count}; it took {took_s:.1f} s to stop")
    assert agent.process.returncode == 0
    assert delivery.lost == set()
    assert delivery.duplicates <= _WINDOW
    assert delivery.gaps == []
    assert delivery.flaws == {}


@pytest.mark.parametrize("way", ["a proxy that swallows", "a broker that is stopped", "silence while nothing is made"])
def test_a_half_open_link_is_found_out_and_costs_nothing(
    tmp_path: Path, figures: Figures, scale: Scale, way: str
) -> None:
    if not scale.full and way != "a proxy that swallows":
        pytest.skip("of the full form")
    cameras = 0 if "nothing" in way else 1
    with Mosquitto(tmp_path, config=PERSISTENT) as broker, Archive(broker.port) as archive, Link(broker.port) as link:
        link.open()
        with agent_at(link.port, tmp_path, cameras=cameras) as agent:
            wait_until_connected(agent)
            time.sleep(2)
            begun_s = time.monotonic()
            _silence(broker, link, way)
            wait_until(
                lambda: mqtt_of(agent)["state"] != "connected",
                timeout_s=2 * _KEEPALIVE_S + 10,
                what="the agent knows that the link is dead",
            )
            found_out_s = time.monotonic() - begun_s
            time.sleep(scale(short=1, full=max(0.0, 60 - found_out_s)))
            _end_silence(broker, link, way)
            wait_until_connected(agent, timeout_s=40)
            delivery = settled(agent, archive, up_to(*last_made(agent)), timeout_s=60)
            agent.end()
    what = f"half-open link ({way})"
    figures(f"{what}: found out", "within 45 s, 1.5 keep-alives", f"{found_out_s:.1f} s")
    figures(f"{what}: lost", "0", f"{len(delivery.lost)} of {delivery.count}")
    assert found_out_s <= 1.5 * _KEEPALIVE_S
    assert delivery.lost == set()
    assert delivery.duplicates <= 2 * _WINDOW  # an attempt to connect may have come through, late
    assert delivery.gaps == []
    assert delivery.flaws == {}


def _silence(broker: Mosquitto, link: Link, way: str) -> None:
    if "broker" in way:
        broker.pause()
    else:
        link.swallows = True


def _end_silence(broker: Mosquitto, link: Link, way: str) -> None:
    if "broker" in way:
        broker.resume()
    else:
        link.close()
        link.swallows = False
        link.open()


def _place(payload: bytes) -> Place:
    result = json.loads(payload)
    return result["boot"], result["seq"]
