from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from agents.fake_agent import FakeHealth, FakeModels, birds, identity
from events.made import an_event

from agent.classification import Category, Classification, Spot, StableState, Timing
from agent.inference.results import Results
from agent.overview import Overview
from agent.status import CameraHealth, CameraStatus, ProfileStatus

if TYPE_CHECKING:
    from agent.classification import Result


class Site:
    """An overview of the cameras front and back, and the events that it sends while `watch` was called."""

    def __init__(self) -> None:
        self.statuses = {"front": CameraStatus("starting"), "back": CameraStatus("disabled")}
        self.view_models: dict[Spot, str | None] = {Spot("front"): "birds", Spot("back"): None}
        self.health, self.models = FakeHealth(), FakeModels(birds())
        self.overview = Overview(
            {"id": "pi"},
            view_models=lambda: self.view_models,
            cameras=self,
            models=self.models,
            health=self.health,
        )
        self.events: list[tuple[str, Any]] = []
        self._arrived = asyncio.Event()
        self._results = Results(device="pi")

    def has_picture(self, name: str) -> bool:
        return name == "front"

    def watch(self) -> None:
        self.overview.watch(self._take)

    def _take(self, event: str, document: Any) -> None:
        self.events.append((event, document))
        self._arrived.set()

    def result(self, label: str, source: str = "front") -> Result:
        classification = Classification(identity(2), (Category(7, label, 0.9),), Timing(0, 1, 1, 2))
        return self._results.record(classification, spot=Spot(source), captured_ns=0)

    async def until(self, event: str) -> Any:
        """The document of the next such event."""
        for _ in range(100):
            found = [document for name, document in self.events if name == event]
            if found:
                return found[0]
            self._arrived.clear()
            await asyncio.wait_for(self._arrived.wait(), 10)
        raise AssertionError(event)


@pytest.mark.anyio
async def test_status_shows_the_newest_of_everything() -> None:
    site = Site()
    site.overview.classified(site.result("robin"))
    site.overview.classified(site.result("owl", source="upload"))
    site.overview.state_changed(Spot("front"), StableState("robin", 0.9, 0, identity(2)))
    site.overview.state_changed(Spot("front"), StableState(None, None, 0, identity(2)))
    document = site.overview.status()
    front, back = document["cameras"]
    assert (front["state"], front["enabled"], front["model"], front["has_picture"]) == ("starting", True, "birds", True)
    assert (back["state"], back["enabled"], back["model"], back["result"], back["stable"]) == (
        *("disabled", False, None, None, None),
    )
    assert front["result"]["categories"][0]["label"] == "robin"
    assert [(state["label"], state["class_id"], state["previous"]) for state in document["timeline"]] == [
        ("robin", 7, None),
        (None, None, "robin"),
    ]
    assert front["stable"] == document["timeline"][-1]
    assert document["models"][0]["name"] == "birds"
    assert (document["ready"], document["warnings"], document["mqtt"]["state"]) == (
        True,
        ["Model x: bad."],
        "connected",
    )
    assert document["stats"] is None


@pytest.mark.anyio
async def test_timeline_keeps_200_states() -> None:
    site = Site()
    for number in range(201):
        site.overview.state_changed(Spot("front"), StableState(str(number), 0.9, 0, identity(2)))
    timeline = site.overview.status()["timeline"]
    assert (len(timeline), timeline[0]["label"], timeline[-1]["label"]) == (200, "1", "200")


@pytest.mark.anyio
async def test_states_cameras_and_models_are_sent_at_once() -> None:
    site = Site()
    site.watch()
    site.overview.state_changed(Spot("front"), StableState("robin", 0.9, 0, identity(2)))
    site.statuses["front"] = CameraStatus("lost", "Unplugged.")
    site.overview.camera_changed("front", site.statuses["front"])
    site.overview.model_changed(birds(pinned=2))
    for names in ((), ("night",)):
        site.overview.profile_changed(ProfileStatus(None, "auto", names))
    assert [name for name, _ in site.events] == ["state", "camera", "model", "profile", "profile"]
    assert site.events[1][1]["reason"] == "Unplugged."
    assert "result" not in site.events[1][1]
    assert site.events[2][1]["pinned"] == "2"
    assert [document for _, document in site.events[3:]] == [None, site.overview.status()["profile"]]
    assert site.overview.status()["profile"] == {"active": None, "chosen": "auto", "profiles": ["night"]}


@pytest.mark.anyio
async def test_health_of_a_camera_is_shown_and_sent_when_it_changes() -> None:
    site = Site()
    assert [camera["health"] for camera in site.overview.cameras()] == [None, None]
    site.watch()
    site.overview.camera_health_changed("front", CameraHealth("moved", "Turn it back."))
    assert [(name, document["health"]) for name, document in site.events] == [
        ("camera", {"state": "moved", "reason": "Turn it back."})
    ]
    assert site.overview.cameras()[0]["health"]["state"] == "moved"
    site.overview.camera_health_changed("front", None)
    assert site.overview.cameras()[0]["health"] is None


@pytest.mark.anyio
async def test_camera_lists_its_views_with_their_states_and_results() -> None:
    site = Site()
    spots = (Spot("front", "door"), Spot("front", "gate"))
    site.view_models = dict.fromkeys(spots, "birds")
    site.overview.cameras_configured({"front": spots})
    site.overview.classified(replace(site.result("robin"), view="door"))
    site.overview.state_changed(spots[0], StableState("robin", 0.9, 0, identity(2)))
    camera = site.overview.cameras()[0]
    door, gate = camera["views"]
    assert (door["name"], door["model"], door["stable"]["label"]) == ("door", "birds", "robin")
    assert (door["stable"]["view"], door["result"]["view"]) == ("door", "door")
    assert gate == {"name": "gate", "model": "birds", "stable": None, "result": None}
    assert "result" not in camera
    site.overview.cameras_configured({"front": spots[1:]})
    site.view_models = {spots[1]: "birds"}
    assert [view["name"] for view in site.overview.cameras()[0]["views"]] == ["gate"]


@pytest.mark.anyio
async def test_events_are_sent_while_somebody_watches() -> None:
    site = Site()
    event = an_event()
    site.overview.event(event)
    site.watch()
    site.overview.event(event)
    assert site.events == [("event", event.to_json())]
    assert site.overview.status()["records_events"] is False


@pytest.mark.anyio
async def test_only_the_newest_result_of_each_camera_is_sent() -> None:
    site = Site()
    site.watch()
    for label in ("wren", "robin"):
        site.overview.classified(site.result(label))
    site.overview.classified(site.result("owl", source="upload"))
    assert (await site.until("result"))["categories"][0]["label"] == "robin"
    statistics = await site.until("stats")
    assert [name for name, _ in site.events] == ["result", "stats"]
    assert statistics["frames_per_s"]["front"] > 0
    assert site.overview.status()["stats"] == statistics


@pytest.mark.anyio
async def test_health_and_mqtt_are_sent_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    site.watch()
    site.health.not_ready = ["Camera front is lost."]
    monkeypatch.setattr(site.health, "mqtt", lambda: None)
    document = await site.until("health")
    assert (document["ready"], document["reasons"]) == (False, ["Camera front is lost."])
    assert ("mqtt", None) in site.events


@pytest.mark.anyio
async def test_nothing_is_measured_or_sent_while_nobody_watches() -> None:
    site = Site()
    site.watch()
    await site.until("stats")
    site.overview.watch(None)
    site.events.clear()
    site.overview.classified(site.result("robin"))
    site.overview.camera_changed("front", site.statuses["front"])
    await asyncio.sleep(0.5)  # longer than a beat
    assert site.events == []
    assert site.overview.status()["stats"] is None
