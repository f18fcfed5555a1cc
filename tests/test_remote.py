"""RemoteAgent against real servers: the agent's own application and servers that are not an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents.fake_agent import FakeModels, birds, identity, rest_app
from peers.mosquitto import free_port
from peers.web_server import answering, serving

from agent.errors import AgentError, ConfigError, StoreError, VersionError
from agent.remote import RemoteAgent
from agent.status import ModelStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY_NAME = "a b?#%&ü[1].."


@pytest.fixture
def models() -> FakeModels:
    return FakeModels(birds(), ModelStatus(ANY_NAME))


@pytest.fixture
def agent(models: FakeModels) -> Iterator[RemoteAgent]:
    with serving(rest_app(models)) as port:
        yield RemoteAgent(f"http://127.0.0.1:{port}")


def test_models_are_read(agent: RemoteAgent, models: FakeModels) -> None:
    assert agent.models() == [each.to_json() for each in models.statuses]
    assert agent.model("birds") == birds().to_json()


def test_every_operation_reaches_the_models(agent: RemoteAgent, models: FakeModels) -> None:
    assert agent.pin("birds", 1)["pinned"] == "1"
    assert agent.unpin("birds")["pinned"] is None
    assert agent.promote("birds")["canary"] is None
    assert agent.rollback("birds")["serving"] == identity(1).to_json()
    assert models.asked == [("pin", "birds", 1), ("unpin", "birds"), ("promote", "birds"), ("rollback", "birds")]


def test_name_may_have_any_character_of_a_file_name(agent: RemoteAgent, models: FakeModels) -> None:
    assert agent.model(ANY_NAME)["name"] == ANY_NAME
    agent.unpin(ANY_NAME)
    assert models.asked == [("unpin", ANY_NAME)]


def test_name_that_is_not_unicode_is_not_found(agent: RemoteAgent) -> None:
    with pytest.raises(AgentError, match=r"Model .+ does not exist"):
        agent.model("\udcff")


@pytest.mark.parametrize("error", [VersionError("birds has no version 9."), StoreError("The disk is full.")])
def test_refusal_has_the_sentence_of_the_agent(agent: RemoteAgent, models: FakeModels, error: AgentError) -> None:
    models.refusal = error
    with pytest.raises(AgentError) as caught:
        agent.pin("birds", 9)
    assert str(caught.value) == str(error)


def test_proxy_in_the_environment_is_ignored(agent: RemoteAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    assert agent.models()


def test_error_names_the_url_when_nothing_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(AgentError) as caught:
        RemoteAgent(url).models()
    assert str(caught.value) == (
        f"No agent answers at {url} (Connection refused). Start it, or give its address with --url or --config."
    )


def test_error_names_the_url_when_there_is_no_route() -> None:
    with pytest.raises(AgentError, match=r"No agent answers at http://\[fe80::1\]:8501 \(.+\)\. Start it, or give"):
        RemoteAgent("http://[fe80::1]:8501").models()


def test_request_times_out_when_the_agent_does_not_answer() -> None:
    with answering(None) as port, pytest.raises(AgentError, match="did not answer within 0 s"):
        RemoteAgent(f"http://127.0.0.1:{port}", timeout_s=0.1).pin("birds", 1)


def test_error_is_raised_when_the_agent_closes_the_connection() -> None:
    with (
        answering(b"") as port,
        pytest.raises(AgentError, match=rf"The agent at http://127.0.0.1:{port} closed the connection"),
    ):
        RemoteAgent(f"http://127.0.0.1:{port}").pin("birds", 1)


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "BadStatusLine"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", "status 302 without JSON"),
        (b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n<h1>Not found</h1>", "status 404 without JSON"),
        (b'HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n{"detail": "Not Found"}', "status 404"),
        (ok(b"\xff\xfe"), "status 200 without JSON"),
        (ok(b"[" * 100_000), "status 200 without JSON"),
        (ok(b"[]"), "status 200 without JSON"),
        (ok(b'{"models": 1}'), "the response is not a list of models"),
    ],
)
def test_server_that_is_not_an_agent_is_recognized(answer: bytes, why: str) -> None:
    with answering(answer) as port, pytest.raises(AgentError) as caught:
        RemoteAgent(f"http://127.0.0.1:{port}").models()
    assert str(caught.value) == (
        f"The server at http://127.0.0.1:{port} is not an edge-agent ({why}). "
        "Give the agent's address with --url or --config."
    )


def test_answer_without_versions_is_not_a_status() -> None:
    with answering(ok(b"{}")) as port, pytest.raises(AgentError, match="the response is not the status of a model"):
        RemoteAgent(f"http://127.0.0.1:{port}").model("birds")


def test_https_url_of_a_plain_server_is_an_error(models: FakeModels) -> None:
    with serving(rest_app(models)) as port, pytest.raises(AgentError, match="No agent answers at https://"):
        RemoteAgent(f"https://127.0.0.1:{port}").models()


def test_url_may_lack_the_scheme_and_have_a_path(models: FakeModels) -> None:
    with serving(rest_app(models)) as port:
        assert len(RemoteAgent(f"127.0.0.1:{port}/").models()) == 2
        with pytest.raises(AgentError, match="/behind a/proxy/api/models does not exist"):
            RemoteAgent(f"127.0.0.1:{port}/behind%20a/proxy/").models()


@pytest.mark.parametrize(
    "url",
    ["", "http://", "ftp://host", "http://host:99999", "http://host:port", "http://[::1", "http://a b", "http://a..b"],
)
def test_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RemoteAgent(url)
    assert str(caught.value) == f"{url} is not a valid agent URL. Use the form http://192.168.1.20:8501."
