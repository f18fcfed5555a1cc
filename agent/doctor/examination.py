"""Examination: runs every check, in the order in which a person should fix the findings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent.doctor import device, software
from agent.doctor.finding import fault, ok
from agent.doctor.unit import INSTALLED, check_hidden
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.config.camera import CameraSection
    from agent.doctor.finding import Finding
    from agent.doctor.unit import Unit


def examine(path: Path | None, unit: Unit = INSTALLED, *, token: str | None = None) -> Iterator[Finding]:
    """Yields each finding as soon as it is made; without a configuration `path`, the defaults are examined.

    `token` is an access token for the running agent.
    """
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
        yield from _examine_service(path, unit, token)


def _examine_service(path: Path | None, unit: Unit, token: str | None) -> Iterator[Finding]:
    # Imported only here: a package that these modules need may be the one that does not load.
    from agent.config.load import load_config, named_files  # noqa: PLC0415
    from agent.doctor.access import denied_files  # noqa: PLC0415
    from agent.doctor.broker import check_broker  # noqa: PLC0415
    from agent.doctor.certificate import check_certificate  # noqa: PLC0415
    from agent.doctor.delegate import check_delegate  # noqa: PLC0415
    from agent.doctor.rpc import check_grpc  # noqa: PLC0415
    from agent.doctor.running import check_running  # noqa: PLC0415
    from agent.doctor.tokens import check_tokens  # noqa: PLC0415
    from agent.models.store import copies_of  # noqa: PLC0415
    from agent.wiring.broker import broker_endpoint  # noqa: PLC0415

    try:
        config = load_config(path)
        endpoint = broker_endpoint(config)
    except ConfigError as error:
        remedy = "Run: sudo edge-agent doctor" if "Permission denied" in str(error) else "Fix it; the service needs it."
        yield fault("configuration", str(error), remedy)
        return
    yield ok("configuration", f"{path or 'none; the defaults are used'}")
    yield device.check_disk(config.device.state_folder)
    yield device.check_drop_folder(config.models.folder)
    yield check_delegate(copies_of(config.device.state_folder))
    is_of_the_unit = path == unit.config
    if is_of_the_unit:
        yield from unit.check_secrets()
        for key, denied in denied_files(unit.config, config, unit.account()):
            yield fault(key, denied.fact, denied.remedy)
        others = [(key, file) for key, file in named_files(config) if not key.startswith("cameras.")]
        yield from filter(None, [check_hidden(key, file) for key, file in others])
    yield check_tokens(config, unit.account() if is_of_the_unit else None)
    yield from check_certificate(config)
    agent_url = config.http.own_url() if config.http.port != 0 else None  # port 0: only the agent's log shows it
    cert_file = config.http.tls_cert
    yield from _examine_cameras(config.cameras, agent_url, token, cert_file, may_be_hidden=is_of_the_unit)
    if config.mqtt.enabled and not config.mqtt.embedded_broker:
        yield check_broker(endpoint)
    running = [] if agent_url is None else check_running(agent_url, token=token, cert_file=cert_file)
    yield from running
    is_running = any(finding.about == "agent" and finding.level != "fault" for finding in running)
    yield from check_grpc(config, is_running=is_running)


def _examine_cameras(
    cameras: Mapping[str, CameraSection],
    agent_url: str | None,
    token: str | None,
    cert_file: Path | None,
    *,
    may_be_hidden: bool,
) -> Iterator[Finding]:
    from agent.config.load import named_files  # noqa: PLC0415  (see _examine_service)
    from agent.doctor.camera import check_camera  # noqa: PLC0415  (it loads OpenCV)

    for name, camera in cameras.items():
        if camera.enabled:
            program = [Path(camera.command.run[0])] if camera.command else []
            files = [*program, *(file for _, file in named_files(camera))] if may_be_hidden else []
            hidden = [finding for file in files if (finding := check_hidden(f"camera {name}", file))]
            yield from hidden or [check_camera(name, camera, agent_url=agent_url, token=token, cert_file=cert_file)]
