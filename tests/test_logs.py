from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.logs import EventLog, JsonFormatter, TextFormatter
from agent.status import CameraHealth

if TYPE_CHECKING:
    import pytest

_DOCUMENT = Path(__file__).parents[1] / "docs/reference/logs.md"


def written(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter(device="pi-gate", version="1.2.3").format(record)
    assert "\n" not in text
    fields: dict[str, Any] = json.loads(text)
    return fields


def failed(**extra: str) -> logging.LogRecord:
    why = (ValueError, ValueError("invalid literal"), None)
    return logging.getLogger().makeRecord("agent.x", logging.ERROR, "f.py", 1, "failed", (), why, extra=extra)


def test_json_record_is_one_line_with_fixed_fields() -> None:
    record = logging.LogRecord("agent.x", logging.WARNING, "f.py", 1, "two\nlines %s", ("ä",), None)
    record.created = 1_764_000_000.25
    assert written(record) == {
        "@timestamp": "2025-11-24T16:00:00.250Z",
        "log.level": "warning",
        "message": "two\nlines ä",
        "log.logger": "agent.x",
        "ecs.version": "8.11.0",
        "service.name": "edge-agent",
        "service.version": "1.2.3",
        "device.id": "pi-gate",
    }


def test_json_record_has_fields_for_the_camera_and_the_model() -> None:
    fields = written(failed(camera="gate", model="birds"))
    assert (fields["labels.camera"], fields["labels.model"]) == ("gate", "birds")


def test_text_record_is_one_line_when_it_quotes_control_characters() -> None:
    record = logging.LogRecord("agent.x", logging.WARNING, "f.py", 1, "%s is bad", ("a\n06:00 ERROR \x1b[31m",), None)
    assert TextFormatter("%(message)s").format(record) == "a 06:00 ERROR  [31m is bad"


def test_json_record_has_fields_for_the_exception() -> None:
    fields = written(failed())
    assert fields["error.type"] == "ValueError"
    assert fields["error.message"] == "invalid literal"
    assert "ValueError: invalid literal" in fields["error.stack_trace"]


def test_documentation_lists_every_field() -> None:
    rows = re.findall(r"^\| `([@a-z_.]+)` \|", _DOCUMENT.read_text(), re.MULTILINE)
    named = {row for row in rows if row.partition(".")[2] not in {"yaml", "json"}}
    assert named == written(failed(camera="gate", model="birds")).keys()


def test_health_of_a_camera_is_logged_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = EventLog()
    for health in (CameraHealth("ok"), CameraHealth("moved", "Turn it back."), CameraHealth("ok"), None):
        log.camera_health_changed("front", health)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "The pictures of camera front are not good (moved). Turn it back."),
        ("INFO", "The pictures of camera front are good (ok)."),
    ]
