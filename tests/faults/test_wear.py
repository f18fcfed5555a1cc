"""Bytes that the agent writes to the disk per result, while the link is up and while it is down."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faults.makers import PER_S, PERSISTENT, agent_at, last_made, wait_until_connected
from peers.mosquitto import Mosquitto

if TYPE_CHECKING:
    from agents.running_agent import RunningAgent
    from faults.figures import Figures
    from faults.scale import Scale

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(300)]

_BOUNDS = {("spill", "up"): 50, ("spill", "down"): 1500, ("group", "up"): 1500, ("group", "down"): 1500}
_IN_MEMORY = {"tmpfs", "ramfs"}  # writes to these reach no disk and are not counted


def test_the_bytes_written_per_result_stay_under_the_bounds(tmp_path: Path, figures: Figures, scale: Scale) -> None:
    """Two agents, one for each durability, use the same broker."""
    if (system := _file_system(tmp_path)) in _IN_MEMORY:
        pytest.skip(f"{tmp_path} is on {system}, where no bytes are counted. Give pytest another --basetemp.")
    during_s = scale(short=5, full=60)
    with (
        Mosquitto(tmp_path, config=PERSISTENT) as broker,
        _agent(broker, tmp_path, "spill") as spill,
        _agent(broker, tmp_path, "group") as group,
    ):
        agents = {"spill": spill, "group": group}
        wait_until_connected(spill)
        wait_until_connected(group)
        time.sleep(2)
        measured = {"up": _bytes_per_result(agents, during_s)}
        broker.stop()
        time.sleep(3)
        measured["down"] = _bytes_per_result(agents, during_s)
        spill.end()
        group.end()
    for (durability, link), bound in _BOUNDS.items():
        written = measured[link][durability]
        what = f"{PER_S} results/s for {during_s} s, {durability}, link {link}: bytes written per result"
        figures(what, f"under {bound}", f"{written:.0f} on {system}")
        assert written < bound


def _agent(broker: Mosquitto, folder: Path, durability: str) -> RunningAgent:
    own = folder / durability
    own.mkdir()
    return agent_at(broker.port, own, durability=durability, client_id=durability, base_topic=durability)


def _bytes_per_result(agents: dict[str, RunningAgent], during_s: float) -> dict[str, float]:
    """Counts everything that the processes write."""
    first = {name: (last_made(agent)[1], _written(agent)) for name, agent in agents.items()}
    time.sleep(during_s)
    last = {name: (last_made(agent)[1], _written(agent)) for name, agent in agents.items()}
    made = {name: last[name][0] - first[name][0] for name in agents}
    assert min(made.values()) > 0.8 * during_s * PER_S
    return {name: (last[name][1] - first[name][1]) / made[name] for name in agents}


def _written(agent: RunningAgent) -> int:
    """The dirtied pages of the process, in bytes (proc(5), write_bytes)."""
    counters = Path(f"/proc/{agent.process.pid}/io").read_text()
    return int(counters.partition("\nwrite_bytes:")[2].split()[0])


def _file_system(folder: Path) -> str:
    found = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, check=True, text=True)
    return found.stdout.strip()
