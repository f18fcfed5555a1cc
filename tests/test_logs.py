from __future__ import annotations

import json
import logging
import sys

from agent.logs import JsonFormatter, TextFormatter


def test_a_json_record_is_one_line_with_stable_fields() -> None:
    record = logging.LogRecord("agent.x", logging.WARNING, "f.py", 1, "two\nlines %s", ("ä",), None)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    fields = json.loads(text)
    assert fields.pop("time").endswith("+00:00")
    assert fields == {"level": "warning", "logger": "agent.x", "message": "two\nlines ä"}


def test_a_text_record_is_one_line_whatever_it_quotes() -> None:
    record = logging.LogRecord("agent.x", logging.WARNING, "f.py", 1, "%s is bad", ("a\n06:00 ERROR \x1b[31m",), None)
    assert TextFormatter("%(message)s").format(record) == "a 06:00 ERROR  [31m is bad"


def test_an_exception_stands_in_its_own_field() -> None:
    try:
        int("why")
    except ValueError:
        record = logging.LogRecord("agent.x", logging.ERROR, "f.py", 1, "failed", (), sys.exc_info())
    assert "ValueError: invalid literal" in json.loads(JsonFormatter().format(record))["exception"]
