"""Measures the bytes written to disk, journal included, for one camera that publishes over a good link."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS
from end_to_end.material import digit_png
from peers.mosquitto import Mosquitto
from vm.agent import configure, drop, wait_until_served
from vm.machine import HOST

if TYPE_CHECKING:
    from pathlib import Path

    from system.measured import Note
    from vm.machine import Machine

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(1800)]

_DURING_S = 330  # the journal is written to disk every five minutes
_SETTLE_S = 45
_MAX_BYTES_PER_HOUR = 5 << 20
# Sectors of 512 bytes (docs.kernel.org/block/stat), and bytes in pages that a process dirtied (proc(5), write_bytes).
_READ = """
sync
awk '{print $7 * 512}' /sys/block/vda/stat
for unit in edge-agent systemd-journald; do
    awk '/^write_bytes/ {print $2}' /proc/$(systemctl show --property MainPID --value $unit)/io
done
curl -sS http://127.0.0.1:8501/metrics | awk '/^edge_agent_camera_frames_total.*classified/ {print int($NF)}'
"""


@dataclass(frozen=True, slots=True)
class _Reading:
    at_s: float
    disk: int
    agent: int
    journal: int
    frames: int

    @classmethod
    def of(cls, machine: Machine) -> _Reading:
        return cls(time.monotonic(), *(int(line) for line in machine.run(_READ).split()))


def _pictures(machine: Machine) -> str:
    """Replaces a V4L2 camera: on a slow processor, vivid fills the journal with kernel warnings."""
    folder = "/var/lib/edge-agent/pictures"
    text = base64.b64encode(digit_png()).decode()
    machine.run(f"mkdir -p {folder}; echo {text} | base64 --decode >{folder}/digit.png; chmod -R a+rX {folder}")
    return folder


def test_less_than_5_mb_per_hour_are_written_with_a_good_link(machine: Machine, tmp_path: Path, note: Note) -> None:
    with Mosquitto(tmp_path) as broker:
        machine.run("systemctl stop mosquitto; modprobe --remove --quiet vivid || true")
        drop(machine, DIGITS.read_bytes())
        camera = {"source": _pictures(machine), "loop": True, "score_threshold": 0.0}
        configure(machine, cameras={"front": camera}, mqtt={"host": HOST, "port": broker.port})
        wait_until_served(machine)
        machine.wait_for("curl -sS http://127.0.0.1:8501/readyz | grep '\"ready\":true'")
        time.sleep(_SETTLE_S)
        first = _Reading.of(machine)
        time.sleep(_DURING_S)
        last = _Reading.of(machine)
        machine.run("systemctl stop edge-agent")
    per_hour = 3600 / (last.at_s - first.at_s)
    note("frames classified and published", f"{(last.frames - first.frames) / (last.at_s - first.at_s):.1f} per second")
    for name in ("disk", "agent", "journal"):
        written = (getattr(last, name) - getattr(first, name)) * per_hour
        note(f"written with a good link, {name}", f"{written / 1e6:.2f} MB per hour")
    assert last.frames > first.frames
    assert (last.disk - first.disk) * per_hour < _MAX_BYTES_PER_HOUR
