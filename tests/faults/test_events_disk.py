"""Disk faults of the recorded events: they wait in memory, the agent says so, and it recovers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from faults.disk_faults import AS_ORDINARY_USER, DISK_FAULTS, ONLY_FOR_NEW_FILES, disk_at
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from pathlib import Path

    from faults.figures import Figures
    from faults.scale import Scale

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(120)]

_SHORT = {("a full disk", False), ("a read-only disk", True)}


@pytest.mark.parametrize("before", [True, False], ids=["at the start", "while it records"])
@pytest.mark.parametrize("kind", DISK_FAULTS)
def test_a_disk_fault_of_the_events_is_reported_and_loses_none(
    tmp_path: Path, figures: Figures, scale: Scale, kind: str, *, before: bool
) -> None:
    if not scale.full and (kind, before) not in _SHORT:
        pytest.skip("only in the full form")
    if kind in ONLY_FOR_NEW_FILES and not before:
        pytest.skip("the agent continues to write to the existing file")
    if (kind, before) == ("a read-only disk", False):
        pytest.skip("a file that is open for writing prevents it, unless the kernel itself does it")
    with (
        Mosquitto(tmp_path) as broker,
        Subscriber(broker.port) as heard,
        disk_at(tmp_path / "state" / "events") as disk,
    ):
        agent = RunningAgent(
            tmp_path,
            under=AS_ORDINARY_USER,
            events={"enabled": True},
            mqtt={"enabled": True, "host": "127.0.0.1", "port": broker.port},
            cameras={"front": {"source": str(VIDEO), "loop": True, "model": "digits"}},
        )
        agent.drop(DIGITS.read_bytes())
        fault = DISK_FAULTS[kind](disk)
        if before:
            fault.begin()
        with agent:
            if not before:
                wait_until(lambda: agent.json("/api/events")["events"], what="events are recorded")
                fault.begin()
            wait_until(lambda: _warnings(agent), timeout_s=30, what="the fault is reported")
            reason = _warnings(agent)[0]
            wait_until(lambda: agent.get("/readyz").is_success, what="the agent classifies")
            count = len(heard.of("/event"))
            wait_until(lambda: len(heard.of("/event")) > count + 3, what="events happen meanwhile")
            fault.end()
            ended_s = time.monotonic()
            wait_until(lambda: not _warnings(agent), timeout_s=30, what="the agent has recovered")
            recovered_s = time.monotonic() - ended_s
            ids = {message.json["id"] for message in heard.of("/event")}
            stored = {event["id"] for event in agent.json("/api/events?limit=500")["events"]}
            agent.end()
        assert "Traceback" not in agent.log
    assert reason.startswith(f"Cannot write the events in {disk}: ")
    assert ids <= stored
    figures(
        f"{kind} for the events, beginning {'before the start' if before else 'while they are recorded'}",
        "reported, 0 lost, recovers automatically",
        f"reported, {len(ids - stored)} of {len(ids)} lost; in use {recovered_s:.1f} s after the fault ends",
    )


def _warnings(agent: RunningAgent) -> list[str]:
    return [warning for warning in agent.json("/readyz")["warnings"] if "events" in warning]
