"""The routes of /api/cameras."""

from __future__ import annotations

import httpx
import pytest
from agents.fake_agent import FakeModels, FakeOverview, rest_app


async def ask(overview: FakeOverview, method: str, path: str, *, json: object = None) -> httpx.Response:
    transport = httpx.ASGITransport(rest_app(FakeModels(), overview=overview))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, json=json)


@pytest.mark.anyio
async def test_cameras_are_listed_and_shown() -> None:
    overview = FakeOverview()
    assert (await ask(overview, "GET", "/api/cameras")).json() == {"cameras": overview.cameras()}
    assert (await ask(overview, "GET", "/api/cameras/front")).json() == overview.cameras()[0]


@pytest.mark.anyio
async def test_camera_is_switched_off_and_on() -> None:
    overview = FakeOverview()
    assert (await ask(overview, "POST", "/api/cameras/front/disable", json={})).json()["enabled"] is False
    assert not overview.is_on
    assert (await ask(overview, "POST", "/api/cameras/front/enable", json={})).json()["enabled"] is True
    assert overview.is_on


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "json", "code", "sentence"),
    [
        ("GET", "/api/cameras/x", None, 404, "Camera x does not exist. GET /api/cameras lists the cameras."),
        ("POST", "/api/cameras/x/disable", {}, 404, "Camera x does not exist. GET /api/cameras lists the cameras."),
        ("POST", "/api/cameras/front/disable", None, 415, "Send the header Content-Type: application/json."),
        ("POST", "/api/cameras/front/disable", {"a": 1}, 400, "Send no body or {}."),
    ],
)
async def test_bad_request_is_refused_and_switches_nothing(
    method: str, path: str, json: object, code: int, sentence: str
) -> None:
    overview = FakeOverview()
    answer = await ask(overview, method, path, json=json)
    assert (answer.status_code, answer.json()) == (code, {"error": sentence})
    assert overview.is_on
