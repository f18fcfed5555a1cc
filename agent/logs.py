"""Logs: a line a record, readable for people or JSON for machines."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Literal


def set_up(*, form: Literal["text", "json"], level: str) -> None:
    """Sends every logger's records to standard error."""
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """A line a record: what a message quotes, a file's name for one, must not look like a record of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        record.message = "".join(letter if letter.isprintable() else " " for letter in record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, logger, message, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, tz=timezone.utc)
        fields = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)
