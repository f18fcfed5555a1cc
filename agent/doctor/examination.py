"""Doctor: every check, in the order in which a person should mend what they find."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from agent.doctor import device, software
from agent.doctor.finding import fault, ok
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.doctor.finding import Finding

_INSTALLED = Path("/etc/edge-agent/agent.yaml")
# What the unit gives the service: its StateDirectory= and, where they come from, its LoadCredential=.
_OF_THE_UNIT = {"STATE_DIRECTORY": "/var/lib/edge-agent/state", "CREDENTIALS_DIRECTORY": "/etc/edge-agent"}


def stand_in_for_the_unit(path: Path | None) -> Path | None:
    """Gives this process what the service has around it, where `path` is its configuration or nothing else is said.

    Returns `path`, or the service's own where there is one.
    """
    if path not in (None, _INSTALLED) or not _INSTALLED.exists():
        return path
    for name, value in {**_OF_THE_UNIT, **_environment_of_the_unit()}.items():
        os.environ.setdefault(name, value)
    return _INSTALLED


def _environment_of_the_unit() -> dict[str, str]:
    """What its drop-ins set; nothing where systemd does not tell."""
    command = ["systemctl", "show", "--property=Environment", "--value", "edge-agent.service"]
    try:
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout  # noqa: S603  (systemd's)
    except (OSError, subprocess.SubprocessError):
        return {}
    settings = (word.partition("=") for word in shlex.split(said))
    return {name: value for name, _, value in settings if name.startswith("EDGE_AGENT_")}


def examine(path: Path | None) -> Iterator[Finding]:
    """One after another, as they are found; without a `path` the defaults are what is examined."""
    installed = [
        software.check_runtime(),
        software.check_packages(),
        software.check_libc(),
        software.check_processor(),
    ]
    yield from installed
    yield device.check_memory_cgroup()
    yield device.check_power()
    yield device.check_heat()
    yield device.check_clock()
    yield device.check_wear()
    if not any(finding.level == "fault" for finding in installed):
        yield from _examine_service(path)


def _examine_service(path: Path | None) -> Iterator[Finding]:
    # What they need may be what does not load.
    from agent.config.load import load_config  # noqa: PLC0415
    from agent.doctor.broker import check_broker  # noqa: PLC0415
    from agent.doctor.camera import check_camera  # noqa: PLC0415
    from agent.doctor.delegate import check_delegate  # noqa: PLC0415
    from agent.doctor.hidden import check_hidden  # noqa: PLC0415
    from agent.doctor.running import check_running  # noqa: PLC0415
    from agent.doctor.secret import check_secret  # noqa: PLC0415
    from agent.models.store import copies_of  # noqa: PLC0415
    from agent.wiring.broker import broker_endpoint  # noqa: PLC0415

    try:
        config = load_config(path)
        endpoint = broker_endpoint(config)
    except ConfigError as error:
        mend = "Say: sudo edge-agent doctor" if "Permission denied" in str(error) else "Mend it; the service needs it."
        yield fault("configuration", str(error), mend)
        return
    yield ok("configuration", f"{path or 'none, so the defaults'}")
    yield device.check_disk(config.device.state_folder)
    yield device.check_drop_folder(config.models.folder)
    yield check_delegate(copies_of(config.device.state_folder))
    is_of_the_unit = path == _INSTALLED
    if is_of_the_unit:
        secrets = (check_secret(_INSTALLED.with_name(name)) for name in ("mqtt_password", "mqtt_key"))
        yield from filter(None, (*secrets, check_hidden("models", config.models.folder)))
    for name, camera in config.cameras.items():
        if camera.enabled:
            hidden = is_of_the_unit and check_hidden(f"camera {name}", Path(camera.source))
            yield hidden or check_camera(name, camera.source)
    if config.mqtt.enabled and not config.mqtt.embedded_broker:
        yield check_broker(endpoint, config.mqtt.protocol)
    if config.http.port != 0:  # which only the agent's log tells
        yield from check_running(config.http.own_url())
