"""The options that /predict passes to the data plane, and the status codes of errors."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from agents.fake_agent import FakeDataPlane, FakeModels, rest_app

from agent.errors import ModelError, ModelNotFoundError
from agent.inference.options import Options


async def predict(data_plane: FakeDataPlane, query: str, **arguments: Any) -> httpx.Response:
    transport = httpx.ASGITransport(rest_app(FakeModels(), data_plane))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post(query, **arguments or {"content": b"image"})


@pytest.mark.anyio
@pytest.mark.parametrize("version", ["stable", "canary", "12"])
async def test_version_may_be_a_label_or_a_number(version: str) -> None:
    data_plane = FakeDataPlane()
    assert (await predict(data_plane, f"/predict?model=birds&version={version}")).status_code == 200
    assert (await predict(data_plane, f"/batch_predict?version={version}", files={"files": b"x"})).status_code == 200
    assert data_plane.options == [Options("birds", version=version), Options(version=version)]


@pytest.mark.anyio
async def test_version_is_chosen_by_the_models_when_it_is_missing() -> None:
    data_plane = FakeDataPlane()
    await predict(data_plane, "/predict")
    await predict(data_plane, "/predict?model=birds")
    assert data_plane.options == [Options(), Options("birds")]


@pytest.mark.anyio
@pytest.mark.parametrize("version", ["", "latest", "-1", "1.0", "1%0A", "1" * 19])
async def test_malformed_version_is_refused(version: str) -> None:
    answer = await predict(FakeDataPlane(), f"/predict?version={version}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("version must be stable, canary or a number.")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "error", "code"),
    [
        ("", ModelNotFoundError("No model is served."), 503),
        ("?max_results=1", ModelNotFoundError("No model is served."), 503),
        ("?model=birds", ModelNotFoundError("Model birds is not served."), 404),
        ("?version=9", ModelNotFoundError("Model birds has no version 9."), 404),
        ("?model=birds&version=canary", ModelNotFoundError("Model birds has no canary."), 404),
        ("?version=canary", ModelError("The runtime fails on this image."), 503),
    ],
)
async def test_error_of_the_models_is_404_only_when_the_request_names_one(
    query: str, error: ModelNotFoundError | ModelError, code: int
) -> None:
    data_plane = FakeDataPlane()
    data_plane.refusal = error
    answer = await predict(data_plane, f"/predict{query}")
    assert (answer.status_code, answer.json()) == (code, {"error": str(error)})


@pytest.mark.anyio
async def test_documentation_lists_the_parameters() -> None:
    app = rest_app(FakeModels())

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        document = (await client.get("/openapi.json")).json()
    parameters = document["paths"]["/predict"]["post"]["parameters"]
    assert [each["name"] for each in parameters] == ["model", "version", "max_results", "score_threshold"]
