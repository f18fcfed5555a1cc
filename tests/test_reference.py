"""The pages of docs/reference/ agree with the code."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from agents.fake_agent import FakeModels, rest_app
from documents import REPOSITORY
from peers.web_server import serving
from starlette.requests import Request

from agent import errors
from agent.errors import AgentError, BusyError, ImageError
from agent.mqtt.link.connection import ConnectionState
from agent.mqtt.outbox.gaps import Cause
from agent.remote import RemoteAgent
from agent.rest import app
from docs.reference_generator.pages import PAGES

_NOT_OVER_HTTP = {"AcceleratorError", "ConfigError", "StartError", "SignatureError", "SegmentError", "SourceError"}


def page(name: str) -> str:
    return (REPOSITORY / "docs/reference" / name).read_text(encoding="utf-8")


def rows(text: str) -> dict[str, list[str]]:
    """The other cells of each row of a table, by the name in its first cell."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {line[0].strip("`"): line[1:] for line in lines}


@pytest.mark.parametrize("path", PAGES)
def test_generated_page_is_current(path: str) -> None:
    """If it is not, run `make reference`."""
    assert (REPOSITORY / path).read_text(encoding="utf-8") == PAGES[path]()


def error_classes() -> list[type[AgentError]]:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, AgentError)]
    return [each for each in classes if each not in (AgentError, ImageError)]


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_error_class_is_documented_with_its_status(kind: type[AgentError]) -> None:
    documented = re.findall("[0-9]{3}", rows(page("errors.md"))[kind.__name__][0])
    expected = set() if kind.__name__ in _NOT_OVER_HTTP else statuses(kind)
    assert set(map(int, documented)) == expected


def statuses(kind: type[AgentError]) -> set[int]:
    """The status on each kind of route; 500 means that the route does not raise it."""
    error = BusyError("", retry_after_s=1) if issubclass(kind, BusyError) else kind("")
    paths = (
        ("/predict", b""),
        ("/predict", b"model=birds"),
        ("/api/models/birds/pin", b""),
        ("/v2/models/birds/infer", b""),
    )
    scopes = [{"type": "http", "path": path, "query_string": query, "headers": []} for path, query in paths]
    return {app._code(Request(scope), error) for scope in scopes} - {500}


def test_every_cause_of_a_gap_is_documented() -> None:
    assert set(get_args(Cause)) <= rows(page("errors.md")).keys()


def test_every_state_of_the_broker_connection_is_documented() -> None:
    assert set(get_args(ConnectionState)) <= rows(page("errors.md")).keys()


def test_every_route_is_documented() -> None:
    with serving(rest_app(FakeModels())) as port:
        document = RemoteAgent(f"http://127.0.0.1:{port}").get("/openapi.json")[1].decode()
    routes = re.findall(r'"(/[^"]*)":\{"(get|post)"', document)
    assert len(routes) > 15
    assert [(path, method) for path, method in routes if f"`{method.upper()} {path}`" not in page("http.md")] == []
