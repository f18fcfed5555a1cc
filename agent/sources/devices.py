"""Devices: the cameras that are plugged in, and the controls of one, such as its exposure."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.errors import SourceError
from agent.sources.v4l2_node import Node, open_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.sources.v4l2_node import Capability, Control, Format, Ioctl

# Nodes of boards that look like cameras but are parts of a CSI pipeline, in kernels that do not flag them so.
_CSI_DRIVERS = re.compile(r"unicam|rp1-cfe|tegra-video")
_NOT_CAMERAS = re.compile(r"bcm2835-isp|pispbe|bcm2835-codec|rpivid|rpi-hevc-dec")

CsiStack = Literal["rpicam-vid", "libcamera-vid", "nvarguscamerasrc"]


@dataclass(frozen=True, slots=True)
class Device:
    """A V4L2 camera. `trouble` says why its formats and controls are not known, and what to do."""

    node: str  # /dev/videoN; the number may change at a reboot
    source: str  # the path to configure; it stays the same if the device has such a path
    name: str
    formats: tuple[Format, ...] = ()
    controls: tuple[Control, ...] = ()
    trouble: str | None = None


def list_devices(
    *,
    dev: Path = Path("/dev"),
    sys_class: Path = Path("/sys/class/video4linux"),
    open_node: Callable[[str], int] = open_node,
    ioctl: Ioctl = fcntl.ioctl,
) -> list[Device]:
    """Without encoders, metadata nodes and the parts of CSI cameras. Blocks for as long as the drivers do."""
    nodes = sorted(dev.glob("video[0-9]*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0))
    stable = _stable_paths(dev)
    devices = []
    for node in nodes:
        name = _name_in_sysfs(sys_class / node.name / "name")
        device = _examine(str(node), stable.get(node.name, str(node)), name, open_node, ioctl)
        if device is not None:
            devices.append(device)
    return devices


def set_controls(device: int | str, values: Mapping[str, int], *, ioctl: Ioctl = fcntl.ioctl) -> None:
    """Sets the controls of a file descriptor or path in this order: a mode comes before what it makes settable.

    Raises SourceError for an unknown name, a value out of range, or a device that cannot be used.
    """
    if not values:
        return
    try:
        fd = device if isinstance(device, int) else open_node(device)
    except OSError as error:
        raise SourceError(_why_closed(str(device), error)) from None
    try:
        _set_each(Node(fd, ioctl), values)
    finally:
        if not isinstance(device, int):
            os.close(fd)


def csi_stack(
    which: Callable[[str], str | None] = shutil.which, *, dev: Path = Path("/dev")
) -> tuple[CsiStack, bool] | None:
    """What gives the frames of a CSI camera on this board, and whether a camera may be connected (/dev/media*)."""
    # A Jetson's camera daemon owns its pipeline, so the media nodes say nothing about what it can open.
    if which("gst-inspect-1.0") is not None and _has_argus():
        return "nvarguscamerasrc", True
    programs: tuple[CsiStack, ...] = ("rpicam-vid", "libcamera-vid")
    found = next((program for program in programs if which(program) is not None), None)
    return None if found is None else (found, any(dev.glob("media[0-9]*")))


def _examine(node: str, source: str, name: str, open_node: Callable[[str], int], ioctl: Ioctl) -> Device | None:
    """None if the node is not a camera."""
    try:
        fd = open_node(node)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
            return None  # unplugged in the meantime
        # Without a look at the node, only the names of drivers separate cameras from encoders.
        is_camera = not (_NOT_CAMERAS.match(name) or _CSI_DRIVERS.match(name))
        return Device(node, source, name, trouble=_why_closed(node, error)) if is_camera else None
    opened = Node(fd, ioctl)
    try:
        capability = opened.capability()
        if not _is_camera(capability):
            return None
        return Device(node, source, capability.card or name, opened.formats(), opened.controls())
    except OSError as error:
        return Device(node, source, name, trouble=_why_closed(node, error))
    finally:
        os.close(fd)


def _is_camera(capability: Capability) -> bool:
    is_part = _CSI_DRIVERS.match(capability.driver) or _NOT_CAMERAS.match(capability.driver)
    return capability.gives_frames and not capability.needs_media_controller and not is_part


def _set_each(node: Node, values: Mapping[str, int]) -> None:
    try:
        for name, value in values.items():
            # Asked again each time: setting one control may activate another.
            controls = {control.name: control for control in node.controls()}
            _check(name, value, controls)
            node.set_control(controls[name], value)
    except OSError as error:
        raise SourceError(
            f"The camera refused {name}: {value} ({error.strerror}). Remove it from controls, or restart the camera."
        ) from None


def _check(name: str, value: int, controls: Mapping[str, Control]) -> None:
    control = controls.get(name)
    if control is None:
        known = ", ".join(sorted(controls)) or "none"
        raise SourceError(f"The camera has no control {name}. Its controls: {known}.")
    if control.is_read_only:
        raise SourceError(f"The camera's control {name} cannot be set. Remove it from controls.")
    if control.is_inactive:
        raise SourceError(
            f"The camera's control {name} is inactive. Set first what decides about it, such as auto_exposure: 1."
        )
    if not control.accepts(value):
        raise SourceError(f"The camera's control {name} does not take {value}. It takes {control.range}.")


def _stable_paths(dev: Path) -> dict[str, str]:
    """The name of a node -> its path that does not change at a reboot. by-id follows the camera, by-path the port."""
    found: dict[str, str] = {}
    for folder in ("by-path", "by-id"):
        for link in sorted((dev / "v4l" / folder).glob("*")):
            found[link.resolve().name] = str(link)
    return found


def _name_in_sysfs(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _why_closed(node: str, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"No permission to use {node}. Run the command with sudo, or add this user to the group video."
    if error.errno == errno.ENOENT:
        return f"{node} does not exist. Plug the camera in, or choose another one with edge-agent cameras."
    return f"{node} cannot be used ({error.strerror}). Plug the camera in again, or try another cable or port."


def _has_argus() -> bool:
    try:
        asked = subprocess.run(
            ["gst-inspect-1.0", "--exists", "nvarguscamerasrc"],  # noqa: S607  (wherever GStreamer is installed)
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
