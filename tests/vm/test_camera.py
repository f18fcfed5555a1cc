"""Tests a real /dev/video0 with the shipped unit: frames, an unplugged camera, a camera plugged in later."""

from __future__ import annotations

import json
import shlex
import time
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS
from vm.agent import configure, drop, wait_until_served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.measured import Note
    from vm.machine import Machine

pytestmark = pytest.mark.timeout(1200)

_DRIVER = "/sys/bus/platform/drivers/vivid"
_UNPLUG, _PLUG = f"echo vivid.0 >{_DRIVER}/unbind", f"echo vivid.0 >{_DRIVER}/bind"
_LISTEN = "mosquitto_sub -t edge-agent/test/cameras/front"
_WATCHDOG_S = 30
# VIDIOC_G_FMT and VIDIOC_G_CTRL (V4L2_CID_BRIGHTNESS), by a program without the agent's code.
_ASK = """
import fcntl, os, struct
camera = os.open("/dev/video0", os.O_RDWR)
form = bytearray(struct.pack("=I204x", 1))
fcntl.ioctl(camera, 0xC0D05604, form)
control = bytearray(struct.pack("=Ii", 0x980900, 0))
fcntl.ioctl(camera, 0xC008561B, control)
print("{}x{} brightness".format(*struct.unpack_from("=2I", form, 8)), struct.unpack("=Ii", control)[1])
"""


@pytest.fixture(scope="module")
def watching(machine: Machine) -> Iterator[Machine]:
    """The service has started with a configured camera that is not plugged in yet. A denied system call kills it."""
    machine.override("strict", "SystemCallErrorNumber=kill")
    drop(machine, DIGITS.read_bytes())
    front = {"source": "/dev/video0", "size": "1280x720", "controls": {"brightness": 77}, "score_threshold": 0.0}
    configure(machine, cameras={"front": front})
    wait_until_served(machine)
    yield machine
    machine.override("strict")


def test_a_camera_plugged_in_after_the_start_comes_online(watching: Machine) -> None:
    _wait_for_status(watching, "lost")
    watching.run("modprobe vivid n_devs=1 node_types=0x1")
    _wait_for_status(watching, "online")


def test_frames_are_classified_and_published_in_sequence(watching: Machine, note: Note) -> None:
    heard = watching.run(f"{_LISTEN}/result -C 50 -W 120").splitlines()
    results = [json.loads(line) for line in heard]
    assert [each["seq"] for each in results] == list(range(results[0]["seq"], results[0]["seq"] + 50))
    assert all(each["source"] == "front" and each["model"]["name"] == "digits" for each in results)
    assert all(each["categories"] for each in results)
    begun, ended = (watching.run(f"date -d {results[at]['captured_at']} +%s.%N") for at in (0, -1))
    note("frames of a V4L2 camera, at the default max_fps of 5", f"{49 / (float(ended) - float(begun)):.1f} per second")


def test_camera_has_the_configured_size_and_controls(watching: Machine) -> None:
    assert watching.run(f"python3 -c {shlex.quote(_ASK)}") == "1280x720 brightness 77"


def test_the_group_and_the_device_policy_allow_only_cameras(watching: Machine) -> None:
    assert watching.run("stat -c '%G %a' /dev/video0") == "video 660"
    assert watching.show("DevicePolicy") == "closed"
    assert "char-video4linux" in watching.show("DeviceAllow")


def test_an_unplugged_camera_is_lost_and_the_service_keeps_running(watching: Machine) -> None:
    pid = watching.show("MainPID")
    watching.run(_UNPLUG)
    _wait_for_status(watching, "lost")
    assert "/dev/video0 does not exist" in watching.journal()
    time.sleep(_WATCHDOG_S + 5)  # the watchdog must not mistake this for a hang
    assert [watching.show(key) for key in ("ActiveState", "NRestarts", "MainPID")] == ["active", "0", pid]


def test_a_camera_plugged_in_again_comes_online(watching: Machine, note: Note) -> None:
    pid, started_s = watching.show("MainPID"), time.monotonic()
    watching.run(_PLUG)
    _wait_for_status(watching, "online")
    note("from plugging the camera in again to online", f"{time.monotonic() - started_s:.0f} s")
    watching.run(f"{_LISTEN}/result -C 3 -W 60")
    assert watching.show("MainPID") == pid


def test_no_system_call_of_the_agent_or_its_capture_process_was_denied(watching: Machine) -> None:
    assert watching.run("dmesg | grep type=1326 || true") == ""  # AUDIT_SECCOMP
    assert "status=31/SYS" not in watching.journal()


def test_hidden_camera_is_lost(watching: Machine) -> None:
    watching.override("hidden", "PrivateDevices=yes")
    watching.run("systemctl restart edge-agent")
    _wait_for_status(watching, "lost")
    watching.override("hidden")


def _wait_for_status(machine: Machine, state: str) -> None:
    machine.wait_for(f"test $({_LISTEN}/status -C 1 -W 5) = {state}", timeout_s=120)
