"""Doctor: every check, in the order in which a person should mend what they find."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.checks import device, reach, running, software
from agent.checks.finding import fault, ok
from agent.config import load_config, read_password
from agent.errors import AgentError
from agent.publishers.endpoint import Tls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.checks.finding import Finding
    from agent.config import Config


def examine(path: Path | None) -> Iterator[Finding]:
    """One after another, as they are found; without a `path` the defaults are what is examined."""
    yield software.check_runtime()
    yield software.check_packages()
    yield software.check_libc()
    yield software.check_processor()
    yield device.check_memory_cgroup()
    yield device.check_power()
    yield device.check_heat()
    yield device.check_clock()
    yield device.check_wear()
    try:
        config = load_config(path)
        read_password(config)
    except AgentError as error:
        yield fault("configuration", str(error), "Mend it; edge-agent check-config FILE says whether it is right.")
        return
    yield ok("configuration", f"{path or 'none, so the defaults'}")
    yield from _examine_what_is_configured(config)


def _examine_what_is_configured(config: Config) -> Iterator[Finding]:
    yield device.check_disk(config.device.state_folder)
    yield _check_drop_folder(config.models.folder)
    yield software.check_delegate(next(iter(sorted(config.models.folder.glob("*.tflite"))), None))
    for name, camera in config.cameras.items():
        if camera.enabled:
            yield reach.check_camera(name, camera.source)
    mqtt = config.mqtt
    if mqtt.enabled and not mqtt.embedded_broker:
        tls = Tls(mqtt.ca_file, mqtt.cert_file, mqtt.key_file).context if mqtt.tls else None
        yield reach.check_broker(mqtt.host, mqtt.port, tls)
    yield from running.check_running(config.http.own_url())


def _check_drop_folder(folder: Path) -> Finding:
    try:
        dropped = sum(1 for _ in folder.glob("*.tflite"))
        folder.stat()
    except OSError as error:
        remedy = f"sudo systemd-tmpfiles --create, or mkdir -p {folder}; to look into it, join the group edge-models."
        return fault("models", f"{folder}: {error.strerror}.", remedy)
    return ok("models", f"{dropped} in {folder}")
