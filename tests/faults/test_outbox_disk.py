"""Disk faults of the outbox while the broker is stopped: results wait in memory, and the agent recovers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import wait_until
from faults.archive import Archive
from faults.delivery import up_to
from faults.disk_faults import AS_ORDINARY_USER, DISK_FAULTS, ONLY_FOR_NEW_FILES, disk_at
from faults.makers import PERSISTENT, agent_at, last_made, metric, mqtt_of, settled, wait_until_connected
from peers.mosquitto import Mosquitto

if TYPE_CHECKING:
    from pathlib import Path

    from agents.running_agent import RunningAgent
    from faults.figures import Figures
    from faults.scale import Scale

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(300)]

_SHORT = {("a full disk", True), ("a read-only disk", False)}


@pytest.mark.parametrize("before", [True, False], ids=["before the outage", "in the outage"])
@pytest.mark.parametrize("kind", DISK_FAULTS)
def test_a_disk_fault_is_reported_and_loses_nothing_while_memory_has_space(
    tmp_path: Path, figures: Figures, scale: Scale, kind: str, *, before: bool
) -> None:
    if not scale.full and (kind, before) not in _SHORT:
        pytest.skip("only in the full form")
    if kind in ONLY_FOR_NEW_FILES and not before:
        pytest.skip("the agent continues to write to the existing file")
    with (
        Mosquitto(tmp_path, config=PERSISTENT) as broker,
        Archive(broker.port) as archive,
        disk_at(tmp_path / "state" / "outbox") as disk,
        agent_at(broker.port, tmp_path, under=AS_ORDINARY_USER) as agent,
    ):
        wait_until_connected(agent)
        fault = DISK_FAULTS[kind](disk)
        if before:
            fault.begin()
            time.sleep(1)
            broker.stop()
        else:
            broker.stop()
            wait_until(lambda: metric(agent, "outbox_bytes") > 0, what="results are on the disk")
            fault.begin()
        wait_until(lambda: mqtt_of(agent)["outbox_trouble"], what="the fault is reported")
        reason = mqtt_of(agent)["outbox_trouble"]
        assert agent.get("/readyz").is_success
        assert metric(agent, "outbox_trouble") == 1
        time.sleep(scale(short=1, full=10))
        fault.end()
        ended_s = time.monotonic()
        wait_until(lambda: _is_healthy(agent), what="the agent has recovered")
        recovered_s = time.monotonic() - ended_s
        broker.start()
        wait_until_connected(agent)
        made = up_to(*last_made(agent))
        delivery = settled(agent, archive, made, timeout_s=30)
        agent.end()
    assert reason.startswith(f"Cannot use the outbox folder {disk}: ")
    assert reason.endswith(".")
    assert delivery.lost == set()
    assert delivery.gaps == []
    assert delivery.flaws == {}
    when = "before" if before else "during"
    figures(
        f"{kind} for the outbox, beginning {when} an outage",
        "reported, 0 lost, recovers automatically",
        f"reported, {len(delivery.lost)} of {delivery.count} lost; in use {recovered_s:.1f} s after the fault ends",
    )


def test_the_oldest_results_are_lost_and_announced_when_memory_is_full_too(
    tmp_path: Path, figures: Figures, scale: Scale
) -> None:
    if not scale.full:
        pytest.skip("only in the full form")
    with (
        Mosquitto(tmp_path, config=PERSISTENT) as broker,
        Archive(broker.port) as archive,
        disk_at(tmp_path / "state" / "outbox") as disk,
    ):
        broker.stop()
        with agent_at(broker.port, tmp_path, cameras=2, per_s=1000) as agent:
            fault = DISK_FAULTS["a full disk"](disk)
            fault.begin()
            wait_until(lambda: mqtt_of(agent)["dropped"] > 1000, timeout_s=120, what="memory is full")
            made = up_to(*last_made(agent))
            fault.end()
            wait_until(lambda: _is_healthy(agent), what="the agent has recovered")
            agent.end()
        broker.start()
        with agent_at(broker.port, tmp_path, cameras=0) as agent:
            made |= up_to(*last_made(agent))
            delivery = settled(agent, archive, made, timeout_s=120)
            agent.end()
    figures(
        "a full disk for the outbox, until memory is full too",
        "all losses are announced",
        f"{len(delivery.lost)} of {delivery.count} lost, {len(delivery.undeclared)} of them not announced",
    )
    assert delivery.undeclared == set()
    assert {gap["cause"] for gap in delivery.gaps} == {"memory"}
    assert delivery.flaws == {}


def _is_healthy(agent: RunningAgent) -> bool:
    return mqtt_of(agent)["outbox_trouble"] is None and metric(agent, "outbox_trouble") == 0
