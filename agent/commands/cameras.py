"""The command `edge-agent cameras`: the cameras that can be configured, and the lines that do it."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.options import Json
from agent.errors import ConfigError
from agent.host.terminal import on_one_line, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.sources.address import Login
    from agent.sources.devices import Device
    from agent.sources.onvif import NetworkCamera

_SIDE = 1280  # pixels
_NONE_PLUGGED_IN = (
    "No camera is plugged in. Plug a USB camera in and run the command again; if it is still missing, "
    "`lsusb` shows whether the board sees it at all. For a camera in the network, add --discover."
)
_NONE_IN_NETWORK = (
    "No ONVIF camera answered. Switch ONVIF on in the camera's web page, and run the command in the camera's network: "
    "routers and containers do not pass the question on. A camera without ONVIF needs its URL from its manual."
)


def cameras(
    discover: Annotated[
        bool, typer.Option("--discover", help="Also look for ONVIF cameras in the local networks: takes 5 s and more.")
    ] = False,
    username: Annotated[
        str | None, typer.Option("--username", help="With --discover: user name for ONVIF, sent to every camera found.")
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            help="With --discover: file with the password. Cameras get a digest of it, not the password.",
            readable=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the cameras that are plugged in, with formats, sizes, rates, controls and the lines for the configuration.

    Works while the agent runs and uses them. Exits with 1 if a camera was found that could not be asked.
    """
    from agent.sources.devices import csi_stack, list_devices
    from agent.sources.onvif import check_installed

    if not discover and (username or password_file):
        raise ConfigError("--username and --password-file are for --discover. Add it.")
    if discover:
        check_installed()
    login = _login(username, password_file)
    devices, stack = list_devices(), csi_stack()
    network = _network(login) if discover else []
    configured = _configuration(devices, network, username, password_file, has_csi=stack is not None and stack[1])
    if as_json:
        print_json(
            {
                "devices": [_device_json(device) for device in devices],
                "csi": stack[0] if stack else None,
                "network": [asdict(camera) for camera in network] if discover else None,
                "configuration": configured,
            }
        )
    else:
        _print_devices(devices)
        if stack:
            _print_stack(*stack)
        if not (devices or stack or discover):
            print(_NONE_PLUGGED_IN, file=sys.stderr)
        if discover:
            _print_network(network)
        _print_configuration(configured)
    if any(device.trouble for device in devices) or any(camera.trouble for camera in network):
        raise typer.Exit(1)


def _login(username: str | None, password_file: Path | None) -> Login | None:
    from agent.sources.address import Address

    if password_file is None and username is None:
        return None
    if password_file is None or username is None:
        raise ConfigError("--username and --password-file belong together. Give both.")
    return Address.parse("http://camera", username=username, password_file=password_file).login()


def _network(login: Login | None) -> list[NetworkCamera]:
    from agent.sources.discovery import discover
    from agent.sources.onvif import streams_of

    return streams_of(discover(), login)


def _device_json(device: Device) -> dict[str, Any]:
    formats = [{"format": each.name, "sizes": [asdict(size) for size in each.sizes]} for each in device.formats]
    controls = [asdict(control) | {"menu": dict(control.menu)} for control in device.controls]
    return asdict(device) | {"formats": formats, "controls": controls}


def _print_devices(devices: list[Device]) -> None:
    if devices:
        print_table(("camera", "device", "format", "size", "frames per second"), _format_rows(devices))
    if any(device.controls for device in devices):
        print()
        print_table(("camera", "control", "values", "default"), _control_rows(devices))
    for trouble in filter(None, (device.trouble for device in devices)):
        print(on_one_line(trouble), file=sys.stderr)


def _format_rows(devices: Iterable[Device]) -> Iterator[tuple[str, ...]]:
    for device in devices:
        rows = [
            (each.name, f"{size.width}x{size.height}", ", ".join(f"{rate:g}" for rate in size.rates))
            for each in device.formats
            for size in each.sizes
        ]
        for row in rows or [("", "", "")]:
            yield device.name, device.node, *row


def _control_rows(devices: Iterable[Device]) -> Iterator[tuple[str, ...]]:
    for device in devices:
        for control in device.controls:
            if not control.is_read_only:
                yield device.name, control.name, control.range, str(control.default)


def _print_stack(program: str, is_connected: bool) -> None:
    if is_connected:
        print(f"\nThis board reads CSI cameras with {program}; `csi:1` is its second camera.")
    else:
        print(f"\n{program} is installed, but /dev/media* does not exist, so a CSI camera is not connected.")


def _print_network(network: list[NetworkCamera]) -> None:
    if not network:
        print(_NONE_IN_NETWORK, file=sys.stderr)
        return
    print()
    head = ("camera", "address", "profile", "encoding", "size", "frames per second", "source")
    print_table(head, _profile_rows(network))
    for camera in network:
        if camera.trouble:
            print(on_one_line(f"{camera.name} at {camera.address}: {camera.trouble}"), file=sys.stderr)


def _profile_rows(network: Iterable[NetworkCamera]) -> Iterator[tuple[str, ...]]:
    for camera in network:
        address = f"{camera.address}:{camera.port}"
        for profile in camera.profiles:
            size = f"{profile.width}x{profile.height}" if profile.width and profile.height else ""
            rate = f"{profile.fps:g}" if profile.fps else ""
            yield camera.name, address, profile.name, profile.encoding, size, rate, profile.source
        if not camera.profiles:
            yield camera.name, address, "", "", "", "", ""


def _configuration(
    devices: Iterable[Device],
    network: Iterable[NetworkCamera],
    username: str | None,
    password_file: Path | None,
    *,
    has_csi: bool,
) -> dict[str, dict[str, str]]:
    """The section `cameras`: the first CSI camera, each device, the first profile of each camera in the network."""
    section: dict[str, dict[str, str]] = {"csi": {"source": "csi"}} if has_csi else {}
    for device in devices:
        section[_key(device.name, section)] = {"source": device.source, **_capture(device)}
    login = {"username": username, "password_file": str(password_file.absolute())} if username and password_file else {}
    for camera in network:
        for profile in camera.profiles[:1]:
            section[_key(camera.name, section)] = {"source": profile.source, **login}
    return section


def _capture(device: Device) -> dict[str, str]:
    """The largest usual size, as JPEGs if the camera makes them; models seldom need more."""
    sizes = {each.name: [(size.width, size.height) for size in each.sizes] for each in device.formats}
    for name in ("mjpeg", "yuyv"):
        fitting = [size for size in sizes.get(name, ()) if size[0] <= _SIDE and size[1] <= _SIDE]
        if fitting:
            width, height = max(fitting, key=lambda size: size[0] * size[1])
            return {"size": f"{width}x{height}", "format": name}
    return {}


def _key(name: str, taken: Iterable[str]) -> str:
    """A name for the configuration that is not taken yet."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-") or "camera"
    used = {*taken, "upload"}  # the agent's own name for uploads
    return next(
        key for number in range(1, 10_000) if (key := plain if number == 1 else f"{plain}-{number}") not in used
    )


def _print_configuration(section: dict[str, dict[str, str]]) -> None:
    import yaml

    if section:
        print("\nFor the configuration, /etc/edge-agent/agent.yaml; the names are yours to choose:\n")
        print(yaml.safe_dump({"cameras": section}, sort_keys=False, width=1000), end="")
