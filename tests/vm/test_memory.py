"""MemoryMax: the kernel kills only the process that exceeds the limit, and the machine keeps running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS
from end_to_end.material import digit_png
from vm.agent import classify_upload, configure, drop, wait_until_served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.machine import Machine

pytestmark = pytest.mark.timeout(1200)

_PYTHON = "/opt/edge-agent/current/bin/python"
_FOLDER = "/var/lib/edge-agent/models"
# A good model with 120 MB of additional data, which a process that reads it holds in memory.
_HEAVY = f"""
cp {_FOLDER}/digits.tflite /tmp/heavy.tflite
{_PYTHON} -c '
import os, zipfile
with zipfile.ZipFile("/tmp/heavy.tflite", "a") as file:
    file.writestr("ballast.bin", os.urandom(120 << 20))'
mv /tmp/heavy.tflite {_FOLDER}/
"""
# 16 million pixels of one color: a small file, but 48 MB when decoded; the agent decodes two at a time.
_LARGE = f"""{_PYTHON} -c '
import cv2, numpy
cv2.imwrite("/tmp/large.png", numpy.zeros((4096, 4096, 3), numpy.uint8))'"""
_UPLOADS = "seq 4 | xargs -P 4 -I{} curl -sS -o /dev/null --data-binary @/tmp/large.png http://127.0.0.1:8501/predict"


@pytest.fixture
def serving(machine: Machine) -> Iterator[Machine]:
    drop(machine, DIGITS.read_bytes())
    configure(machine)
    wait_until_served(machine)
    yield machine
    machine.override("limit")
    machine.run(f"rm -f {_FOLDER}/heavy.tflite")


def _limit(machine: Machine) -> None:
    """Sets a limit slightly above what the service uses with one small model."""
    machine.override("limit", "MemoryHigh=infinity", "MemoryMax=150M")
    machine.run("systemctl restart edge-agent")
    wait_until_served(machine)


def test_a_candidate_over_the_memory_limit_is_rejected_and_the_service_keeps_running(serving: Machine) -> None:
    _limit(serving)
    pid = serving.show("MainPID")
    serving.run(_HEAVY)
    serving.wait_for(f"cat {_FOLDER}/heavy.tflite.rejected.txt", timeout_s=180)
    assert "more memory than it may use" in serving.run(f"cat {_FOLDER}/heavy.tflite.rejected.txt")
    assert "oom_kill 1" in serving.run("cat /sys/fs/cgroup/system.slice/edge-agent.service/memory.events").splitlines()
    assert [serving.show(key) for key in ("MainPID", "NRestarts")] == [pid, "0"]
    assert classify_upload(serving, digit_png())["model"]["name"] == "digits"


def test_a_service_over_the_memory_limit_is_killed_and_restarted(serving: Machine) -> None:
    _limit(serving)
    boot = serving.run("cat /proc/sys/kernel/random/boot_id")
    serving.run(_LARGE)
    serving.attempt(_UPLOADS)
    serving.wait_for("test $(systemctl show -P NRestarts edge-agent) -ge 1 && systemctl is-active edge-agent")
    assert "killed by the OOM killer" in serving.journal()
    wait_until_served(serving)
    assert classify_upload(serving, digit_png())["model"]["name"] == "digits"
    assert serving.run("cat /proc/sys/kernel/random/boot_id") == boot
    assert "CONSTRAINT_NONE" not in serving.run("dmesg")  # would mean that the whole machine ran out of memory
