"""The routes of /api/profile."""

from __future__ import annotations

import httpx
import pytest
from agents.fake_agent import FakeModels, FakeProfiles, rest_app


async def ask(profiles: FakeProfiles, method: str, *, json: object = None) -> httpx.Response:
    transport = httpx.ASGITransport(rest_app(FakeModels(), profiles=profiles))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, "/api/profile", json=json)


@pytest.mark.anyio
async def test_profile_is_shown_and_chosen() -> None:
    profiles = FakeProfiles()
    answers = [
        await ask(profiles, "GET"),
        await ask(profiles, "POST", json={"profile": "night"}),
        await ask(profiles, "POST", json={"profile": "none"}),
    ]
    assert [answer.json() for answer in answers] == [
        {"active": None, "chosen": "auto", "profiles": ["night"]},
        {"active": "night", "chosen": "night", "profiles": ["night"]},
        {"active": None, "chosen": "none", "profiles": ["night"]},
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("json", "code", "sentence"),
    [
        ({"profile": "day"}, 404, "Profile day does not exist."),
        ({"profile": None}, 400, 'Send only the name of the profile: {"profile": "auto"}.'),
        ({"profile": "night", "until": 5}, 400, 'Send only the name of the profile: {"profile": "auto"}.'),
        ({}, 400, 'Send only the name of the profile: {"profile": "auto"}.'),
        (None, 415, "Send the header Content-Type: application/json."),
    ],
)
async def test_bad_choice_is_refused_and_changes_nothing(json: object, code: int, sentence: str) -> None:
    profiles = FakeProfiles()
    answer = await ask(profiles, "POST", json=json)
    assert (answer.status_code, answer.json()) == (code, {"error": sentence})
    assert profiles.status.chosen == "auto"
