"""The routes of /api/cameras."""

from __future__ import annotations

import httpx
import pytest
from agents.fake_agent import FakeModels, FakeOverview, rest_app
from agents.site import site


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
async def test_reference_picture_is_taken_again() -> None:
    overview = FakeOverview()
    answer = await ask(overview, "POST", "/api/cameras/front/reference", json={})
    assert (answer.status_code, answer.json()["name"], overview.retaken) == (200, "front", ["front"])


@pytest.mark.anyio
async def test_reference_picture_is_refused_when_the_health_is_not_judged() -> None:
    overview = FakeOverview()
    overview.is_judged = False
    answer = await ask(overview, "POST", "/api/cameras/front/reference", json={})
    assert (answer.status_code, "health.enabled" in answer.json()["error"]) == (409, True)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "json", "code", "sentence"),
    [
        ("GET", "/api/cameras/x", None, 404, "Camera x does not exist. GET /api/cameras lists the cameras."),
        ("POST", "/api/cameras/x/disable", {}, 404, "Camera x does not exist. GET /api/cameras lists the cameras."),
        ("POST", "/api/cameras/x/reference", {}, 404, "Camera x does not exist. GET /api/cameras lists the cameras."),
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


@pytest.mark.anyio
async def test_snapshot_is_the_newest_picture() -> None:
    answer = await ask(FakeOverview(), "GET", "/api/cameras/front/snapshot.jpg")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/jpeg", b"jpeg")


@pytest.mark.anyio
@pytest.mark.parametrize("file", ["snapshot.jpg", "stream.mjpg"])
async def test_camera_without_pictures_says_why(file: str) -> None:
    overview = FakeOverview()
    overview.is_on = False
    answer = await ask(overview, "GET", f"/api/cameras/front/{file}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["error"] == (
        "Camera front is disabled and has no picture. Retry in a few seconds, or switch the camera on if it is off."
    )
    assert (await ask(overview, "GET", f"/api/cameras/x/{file}")).status_code == 404


@pytest.mark.anyio
async def test_view_has_pictures_below_its_camera() -> None:
    overview = FakeOverview()
    overview.views = ["door"]
    answer = await ask(overview, "GET", "/api/cameras/front/views/door/snapshot.jpg")
    assert (answer.status_code, answer.content) == (200, b"jpeg")
    for file in ("snapshot.jpg", "stream.mjpg"):
        answer = await ask(overview, "GET", f"/api/cameras/front/views/gate/{file}")
        assert (answer.status_code, answer.json()) == (
            404,
            {"error": "Camera front has no view gate. GET /api/cameras lists the views."},
        )


@pytest.mark.anyio
async def test_stream_sends_each_picture_with_the_boundary_behind_it() -> None:
    async with site(rest_app(FakeModels(), overview=FakeOverview())) as server:
        client = await server.connect()
        head = await client.head(b"GET /api/cameras/front/stream.mjpg HTTP/1.1\r\nHost: a\r\n\r\n")
        assert "content-type: multipart/x-mixed-replace; boundary=picture" in head
        await client.until(b"--picture\r\n")
        part = await client.until(b"--picture\r\n")
        assert b"Content-Type: image/jpeg\r\nContent-Length: 4\r\n\r\njpeg\r\n--picture\r\n" in part
