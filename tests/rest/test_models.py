from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from agents.fake_agent import FakeModels, birds, identity, rest_app

from agent.errors import ModelError, ModelNotFoundError, StoreError, VersionError
from agent.status import ModelStatus, Rejection

if TYPE_CHECKING:
    from agent.errors import AgentError


@pytest.fixture
def models() -> FakeModels:
    return FakeModels(birds(), ModelStatus("fish", rejection=Rejection("fish.tflite", "It is empty.", 0)))


async def ask(models: FakeModels, method: str, path: str, **arguments: Any) -> httpx.Response:
    transport = httpx.ASGITransport(rest_app(models), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, **arguments)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    document = answer.json()
    assert list(document) == ["error"]
    return answer.status_code, document["error"]


@pytest.mark.anyio
async def test_models_are_shown_with_their_versions(models: FakeModels) -> None:
    assert (await ask(models, "GET", "/api/models")).json() == {"models": [each.to_json() for each in models.statuses]}
    assert (await ask(models, "GET", "/api/models/birds")).json() == birds().to_json()


@pytest.mark.anyio
async def test_every_operation_returns_the_new_status(models: FakeModels) -> None:
    assert (await ask(models, "POST", "/api/models/birds/pin", json={"version": 2})).json()["pinned"] == "2"
    assert (await ask(models, "POST", "/api/models/birds/unpin", json={})).json()["pinned"] is None
    assert (await ask(models, "POST", "/api/models/birds/promote", json={})).json()["canary"] is None
    assert (await ask(models, "POST", "/api/models/birds/rollback", json={})).json()["serving"] == identity(1).to_json()
    assert models.asked == [("pin", "birds", 2), ("unpin", "birds"), ("promote", "birds"), ("rollback", "birds")]


@pytest.mark.anyio
async def test_version_may_be_a_number_or_a_string(models: FakeModels) -> None:
    for version in (3, "3", "03"):
        assert (await ask(models, "POST", "/api/models/birds/pin", json={"version": version})).status_code == 200
    assert models.asked == [("pin", "birds", 3)] * 3


@pytest.mark.anyio
async def test_missing_body_counts_as_an_empty_object(models: FakeModels) -> None:
    header = {"Content-Type": "application/json; charset=utf-8"}
    assert (await ask(models, "POST", "/api/models/birds/rollback", headers=header)).status_code == 200


@pytest.mark.anyio
async def test_name_may_have_any_character_of_a_file_name() -> None:
    name = "a b?#%&ü[1]"
    models = FakeModels(ModelStatus(name))
    assert (await ask(models, "POST", "/api/models/a%20b%3F%23%25%26%C3%BC%5B1%5D/unpin", json={})).json()[
        "name"
    ] == name
    assert models.asked == [("unpin", name)]


JSON = {"Content-Type": "application/json"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "arguments", "code", "expected"),
    [
        ("pin", {"content": b'{"version": 3}'}, 415, "Send the header Content-Type: application/json."),
        ("pin", {"data": {"version": "3"}}, 415, "Send the header Content-Type: application/json."),
        (
            "rollback",
            {"content": b"{}", "headers": {"Content-Type": "text/plain; application/json"}},
            415,
            "Send the header",
        ),
        ("pin", {"content": b"{", "headers": JSON}, 400, "The body is not a JSON object."),
        ("pin", {"content": b"\xff", "headers": JSON}, 400, "The body is not a JSON object."),
        ("pin", {"content": b"[" * 4000, "headers": JSON}, 400, "The body is not a JSON object."),
        ("pin", {"json": [3]}, 400, "The body is not a JSON object."),
        ("pin", {"json": {}}, 400, "Send only the version, as an integer"),
        ("pin", {"json": {"version": "stable"}}, 400, "Send only the version, as an integer"),
        ("pin", {"json": {"version": 3.0}}, 400, "Send only the version, as an integer"),
        ("pin", {"json": {"version": True}}, 400, "Send only the version, as an integer"),
        ("pin", {"json": {"version": -1}}, 400, "Send only the version, as an integer"),
        ("pin", {"json": {"version": "3\n"}}, 400, "Send only the version, as an integer"),
        ("pin", {"json": {"version": 10**18}}, 400, "Send only the version, as an integer"),
        ("pin", {"json": {"version": 3, "label": "x"}}, 400, "Send only the version, as an integer"),
        ("rollback", {"json": {"version": 1}}, 400, "Send no body or {}. To choose a version, POST"),
        ("unpin", {"content": b" " * 4097, "headers": JSON}, 413, "The body has more than 4096 bytes."),
        ("pin", {"content": b"[" * 100_000, "headers": JSON}, 413, "The body has more than 4096 bytes."),
        ("pin", {"content": b"[" * 4096, "headers": JSON}, 400, "The body is not a JSON object."),
        ("pin", {"content": b'{"a":' * 800, "headers": JSON}, 400, "The body is not a JSON object."),
        (
            "pin",
            {"content": b"{}", "headers": {**JSON, "Content-Encoding": "gzip"}},
            415,
            "Send the body uncompressed.",
        ),
    ],
)
async def test_bad_request_is_refused_with_a_sentence_and_changes_nothing(
    models: FakeModels, path: str, arguments: Any, code: int, expected: str
) -> None:
    got, sentence = refusal(await ask(models, "POST", f"/api/models/birds/{path}", **arguments))
    assert got == code
    assert expected in sentence
    assert models.asked == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelNotFoundError("Model birds does not exist."), 404),
        (VersionError("birds has no version 3."), 409),
        (ModelError("Version 3 no longer loads."), 409),
        (StoreError("The disk is full."), 503),
    ],
)
async def test_every_error_has_its_code_and_its_sentence(models: FakeModels, error: AgentError, code: int) -> None:
    models.refusal = error
    answer = await ask(models, "POST", "/api/models/birds/pin", json={"version": 3})
    assert refusal(answer) == (code, str(error))
    assert answer.headers.get("retry-after") == ("5" if code == 503 else None)


@pytest.mark.anyio
async def test_unknown_model_is_not_found(models: FakeModels) -> None:
    assert refusal(await ask(models, "GET", "/api/models/cats"))[0] == 404
    assert refusal(await ask(models, "POST", "/api/models/cats/unpin", json={})) == (404, "Model cats does not exist.")


@pytest.mark.anyio
async def test_documentation_describes_the_body_of_pin(models: FakeModels) -> None:
    paths = (await ask(models, "GET", "/openapi.json")).json()["paths"]
    body = paths["/api/models/{name}/pin"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["required"] == ["version"]
