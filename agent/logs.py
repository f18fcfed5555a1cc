"""Logs: one line per record, as text for people or as JSON for programs; and the events that are logged."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from typing import TYPE_CHECKING, Literal

from agent.classification import iso_time
from agent.listeners import Listener
from agent.text import printable

if TYPE_CHECKING:
    from agent.status import CameraHealth, CameraStatus, ProfileStatus

log = logging.getLogger(__name__)


def set_up(*, form: Literal["text", "json"], level: str, device: str) -> None:
    """Sends every logger's records to standard error."""
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonFormatter(device=device, version=importlib.metadata.version("edge-agent")))
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """One line per record: text that a message quotes, such as a file name, must not look like another record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        record.message = printable(record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One object per line, with the names of the Elastic Common Schema; the table is in docs/reference/logs.md."""

    def __init__(self, *, device: str, version: str) -> None:
        super().__init__()
        self._of_all = {
            "ecs.version": "8.11.0",
            "service.name": "edge-agent",
            "service.version": version,
            "device.id": device,
        }

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "@timestamp": iso_time(round(record.created * 1e3) * 1_000_000),
            "log.level": record.levelname.lower(),
            "message": record.getMessage(),
            "log.logger": record.name,
            **self._of_all,
            **{f"labels.{name}": getattr(record, name) for name in ("camera", "model") if hasattr(record, name)},
        }
        if record.exc_info:
            error = record.exc_info[1]
            fields["error.type"] = type(error).__name__
            fields["error.message"] = str(error)
            fields["error.stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class EventLog(Listener):
    """Logs the events that no other part logs."""

    def __init__(self) -> None:
        self._announced: set[str] = set()
        self._profile: str | None = None
        self._healths: dict[str, CameraHealth | None] = {}

    def camera_changed(self, camera: str, status: CameraStatus) -> None:
        if camera not in self._announced:  # the initial status is not an event
            self._announced.add(camera)
            return
        level = logging.WARNING if status.state in ("lost", "frozen") else logging.INFO
        sentence = f"Camera {camera} is {status.state}. {status.reason or ''}".rstrip()
        log.log(level, "%s", sentence, extra={"camera": camera})

    def profile_changed(self, status: ProfileStatus) -> None:
        if status.active != self._profile:
            self._profile = status.active
            log.info("Profile: %s (%s).", status.active or "none", "by the clock" if status.is_by_clock else "chosen")

    def camera_health_changed(self, camera: str, health: CameraHealth | None) -> None:
        before, self._healths[camera] = self._healths.get(camera), health
        if health is None or (before is None and health.reason is None):
            return
        said = f"The pictures of camera {camera} are {'good' if health.state == 'ok' else 'not good'} ({health.state})."
        level = logging.INFO if health.reason is None else logging.WARNING
        log.log(level, "%s", f"{said} {health.reason or ''}".rstrip(), extra={"camera": camera})
