"""Tests `edge-agent cameras` and the controls with the kernel's own V4L2 code: the vivid driver."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vm.machine import Machine

pytestmark = pytest.mark.timeout(1200)

_PYTHON = "/opt/edge-agent/current/bin/python"
# One camera, with a node for frames and one for metadata.
_PLUG = "modprobe -r vivid; modprobe vivid n_devs=1 node_types=0x20001; udevadm settle"
_SET = (
    "from agent.errors import SourceError\n"
    "from agent.sources.devices import set_controls\n"
    "try: set_controls('/dev/video0', {values})\n"
    "except SourceError as error: print(error)\n"
)


@pytest.fixture(scope="module")
def plugged(machine: Machine) -> Machine:
    machine.run("systemctl stop edge-agent")
    machine.run(_PLUG)
    assert len(machine.run("ls /dev/video*").split()) > 1
    return machine


def test_vivid_device_is_listed_without_its_metadata_node(plugged: Machine) -> None:
    (device,) = _listed(plugged)
    assert (device["node"], device["name"], device["trouble"]) == ("/dev/video0", "vivid", None)
    sizes = {each["format"]: each["sizes"] for each in device["formats"]}
    assert {"width": 640, "height": 360, "rates": sizes["yuyv"][1]["rates"]} in sizes["yuyv"]
    assert all(size["rates"] for size in sizes["yuyv"])
    controls = {each["name"]: each for each in device["controls"]}
    assert (controls["brightness"]["minimum"], controls["brightness"]["maximum"]) == (0, 255)


def test_controls_of_a_vivid_device_are_set_and_checked(plugged: Machine) -> None:
    assert _set(plugged, {"brightness": 77, "contrast": 12}) == ""
    assert _value(plugged, 0x980900) == 77  # V4L2_CID_BRIGHTNESS
    assert _value(plugged, 0x980901) == 12  # V4L2_CID_CONTRAST
    assert _set(plugged, {"brightness": 256}) == "The camera's control brightness does not take 256. It takes 0 to 255."
    assert "The camera has no control focus. Its controls: " in _set(plugged, {"focus": 1})


def test_device_in_use_is_still_listed(plugged: Machine) -> None:
    streaming = "import cv2\nopened = cv2.VideoCapture(0, cv2.CAP_V4L2)\nwhile opened.read()[0]: print(flush=True)"
    # A unit, because the shell of the machine ends with all its processes.
    unit = "systemd-run --quiet --collect --unit=reader --property=StandardOutput=file:/run/frames"
    plugged.run(f"{unit} {_PYTHON} -c {shlex.quote(streaming)}")
    plugged.wait_for("test -s /run/frames")
    try:
        (device,) = _listed(plugged)
        assert device["trouble"] is None
        assert device["formats"]
    finally:
        plugged.run("systemctl stop reader")


def _listed(machine: Machine) -> list[dict[str, Any]]:
    answer: dict[str, Any] = json.loads(machine.run("edge-agent cameras --json"))
    return [device for device in answer["devices"] if device["node"].startswith("/dev/video")]


def _set(machine: Machine, values: dict[str, int]) -> str:
    program = _SET.replace("{values}", repr(values))
    return machine.run(f"{_PYTHON} -c {shlex.quote(program)}").strip()


def _value(machine: Machine, control: int) -> int:
    """VIDIOC_G_CTRL, by a program without the agent's code."""
    program = (
        "import fcntl, os, struct\n"
        f"buffer = bytearray(struct.pack('=Ii', {control}, 0))\n"
        "fcntl.ioctl(os.open('/dev/video0', os.O_RDWR), 0xC008561B, buffer)\n"
        "print(struct.unpack('=Ii', buffer)[1])\n"
    )
    return int(machine.run(f"python3 -c {shlex.quote(program)}"))
