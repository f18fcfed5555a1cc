from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from events.made import FRONT, a_result, a_state, an_event

from agent.classification import Spot
from agent.errors import ImageDamagedError
from agent.events.recorder import EventRecorder
from agent.listeners import Listener
from agent.status import CameraStatus

if TYPE_CHECKING:
    from agent.classification import Result
    from agent.event import Event
    from agent.listeners import Picture

pytestmark = pytest.mark.anyio

DOOR = Spot("front", "door")
SECOND_NS = 10**9


def no_best() -> None:
    raise AssertionError


class Site(Listener):
    """A recorder whose camera front has an unnamed view and a door; it hears what the recorder announces."""

    def __init__(self, former: tuple[Event, ...] = (), **settings: float) -> None:
        self.recorder = EventRecorder(self, listener=self, **{"update_every_s": 0, **settings})  # type: ignore[arg-type]
        self.recorder.cameras_configured({"front": (FRONT, DOOR)})
        self.recorder.camera_changed("front", CameraStatus("online"))
        self.events: list[Event] = []
        self.stored: list[Event] = []
        self.frames: dict[str, list[bytes]] = {}
        self.is_closed = False
        self._former = former
        self._news = asyncio.Event()

    async def open(self) -> tuple[Event, ...]:
        return self._former

    def put(self, event: Event, jpeg: bytes | None = None) -> None:
        self.stored.append(event)
        if jpeg is not None:
            self.frames.setdefault(event.id, []).append(jpeg)

    async def close(self) -> None:
        self.is_closed = True

    def event(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(event.type, event.label) for event in self.events]

    async def until(self, count: int) -> Event:
        """The event with this number, counted from 1."""
        while len(self.events) < count:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 10)
        return self.events[count - 1]

    def look(self, label: str | None, score: float = 0.9, spot: Spot = FRONT, *, at_ns: int | None = None) -> Result:
        """The picture's bytes are the score."""
        result = a_result(label, score, spot=spot, captured_ns=at_ns)
        self.recorder.looked(result, no_best, lambda *_, **__: str(score).encode())
        return result

    async def show(self, label: str | None, score: float = 0.9, spot: Spot = FRONT) -> None:
        """A new state with the frame that made it stable; returns when its event has begun."""
        self.recorder.state_changed(spot, a_state(label))
        self.look(label, score, spot)
        await self.settle()

    async def settle(self) -> None:
        while self.recorder._encoding:
            await asyncio.wait(self.recorder._encoding)


async def test_an_event_begins_with_a_label_and_ends_with_the_next_one() -> None:
    site = Site()
    now_ns = time.time_ns()
    site.recorder.state_changed(FRONT, a_state("robin", since_ns=now_ns - 5 * SECOND_NS))
    result = site.look("robin", at_ns=now_ns - 4 * SECOND_NS)
    begun = await site.until(1)
    assert (begun.type, begun.spot, begun.label, begun.has_frame) == ("begin", FRONT, "robin", True)
    assert begun.best == result.to_json()
    assert abs(begun.started_ns - (now_ns - 5 * SECOND_NS)) < SECOND_NS
    assert site.frames == {begun.id: [b"0.9"]}
    site.recorder.state_changed(FRONT, a_state("wren", since_ns=now_ns - 2 * SECOND_NS))
    ended = await site.until(2)
    assert replace(ended, type="begin", seen_ns=begun.seen_ns) == begun
    assert ended.to_json()["duration_s"] == pytest.approx(3, abs=0.5)
    assert {begun.started_ns % 10**6, ended.seen_ns % 10**6} == {0}  # as exact as in the store
    site.look("wren")
    await site.until(3)
    await site.show(None)
    assert site.said == [("begin", "robin"), ("end", "robin"), ("begin", "wren"), ("end", "wren")]
    assert len({event.id for event in site.events}) == 2


async def test_the_best_frame_is_the_clearly_better_one() -> None:
    site = Site()
    await site.show("robin", 0.6)
    for label, score in (("robin", 0.62), ("wren", 0.99), ("robin", 0.8), ("robin", 0.7), ("robin", 0.83)):
        site.look(label, score)
        await site.settle()
    await site.show(None)
    assert site.said == [("begin", "robin"), ("update", "robin"), ("end", "robin")]
    assert [event.best["categories"][0]["score"] for event in site.events] == [0.6, 0.8, 0.8]
    assert site.frames[site.events[0].id] == [b"0.6", b"0.8"]


async def test_updates_are_rare_and_the_end_has_the_best_frame() -> None:
    site = Site(update_every_s=60)
    await site.show("robin", 0.6)
    for score in (0.7, 0.8, 0.95):
        site.look("robin", score)
        await site.settle()
    assert site.said == [("begin", "robin")]
    await site.show(None)
    assert site.said == [("begin", "robin"), ("end", "robin")]
    assert site.events[-1].best["categories"][0]["score"] == 0.95
    assert site.frames[site.events[0].id][-1] == b"0.95"


async def test_a_better_frame_is_announced_once_an_update_is_due() -> None:
    site = Site(update_every_s=0.2)
    await site.show("robin", 0.6)
    site.look("robin", 0.9)
    await site.settle()
    while len(site.events) < 2:
        site.look("robin", 0.85)
        await asyncio.sleep(0.01)
    assert site.said == [("begin", "robin"), ("update", "robin")]
    assert site.events[1].best["categories"][0]["score"] == 0.9


async def test_a_long_event_is_stored_again_without_an_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    await site.show("robin")
    stored = len(site.stored)
    site.look("robin")
    assert len(site.stored) == stored
    monkeypatch.setattr("agent.events.recorder._STORE_EVERY_S", 0.0)
    site.look("robin", at_ns=time.time_ns() + 60 * SECOND_NS)
    assert site.said == [("begin", "robin")]
    assert site.stored[-1].type == "begin"
    assert site.stored[-1].seen_ns > site.stored[-2].seen_ns + 50 * SECOND_NS


async def test_another_version_of_the_model_does_not_end_an_event() -> None:
    site = Site()
    await site.show("robin")
    site.recorder.state_changed(FRONT, a_state("robin", version=3))
    await site.show(None)
    assert site.said == [("begin", "robin"), ("end", "robin")]


async def test_each_view_has_its_own_events() -> None:
    site = Site()
    await site.show("robin")
    await site.show("open", spot=DOOR)
    await site.show(None)
    assert [(event.type, event.spot, event.label) for event in site.events] == [
        ("begin", FRONT, "robin"),
        ("begin", DOOR, "open"),
        ("end", FRONT, "robin"),
    ]
    assert site.events[1].to_json()["view"] == "door"


@pytest.mark.parametrize("state", ["disabled", "ended", "starting"])
async def test_events_end_with_their_camera(state: str) -> None:
    site = Site()
    await site.show("robin")
    await site.show("open", spot=DOOR)
    site.recorder.camera_changed("front", CameraStatus(state))  # type: ignore[arg-type]
    assert site.said[2:] == [("end", "robin"), ("end", "open")]
    if state != "starting":
        await site.show("wren")  # the last frame, which was in flight
        assert len(site.events) == 4
    site.recorder.camera_changed("front", CameraStatus("online"))
    await site.show("robin")
    assert site.said[4:] == [("begin", "robin")]


async def test_an_event_lasts_while_the_motion_gate_skips_frames() -> None:
    site = Site()
    now_ns = time.time_ns()
    site.recorder.state_changed(FRONT, a_state("robin", since_ns=now_ns - 40 * SECOND_NS))
    site.look("robin", at_ns=now_ns - 39 * SECOND_NS)
    site.recorder.skipped(FRONT)
    site.recorder.skipped(DOOR)  # which has no state yet
    site.recorder.camera_changed("front", CameraStatus("disabled"))
    assert (await site.until(2)).to_json()["duration_s"] == pytest.approx(40, abs=0.5)


async def test_events_of_a_removed_view_end() -> None:
    site = Site()
    await site.show("robin")
    await site.show("open", spot=DOOR)
    site.recorder.cameras_configured({"front": (FRONT,)})
    assert site.said[2:] == [("end", "open")]
    await site.show("closed", spot=DOOR)
    assert len(site.events) == 3
    site.recorder.cameras_configured({})
    assert site.said[3:] == [("end", "robin")]


async def test_an_event_goes_on_if_the_camera_is_back_soon() -> None:
    site = Site(lost_after_s=60)
    await site.show("robin")
    site.recorder.camera_changed("front", CameraStatus("lost", "Unplugged."))
    site.recorder.camera_changed("front", CameraStatus("online"))
    site.look("robin")
    assert site.said == [("begin", "robin")]
    await site.recorder.close()


async def test_an_event_ends_when_its_camera_is_lost_for_long_and_another_begins_when_it_is_back() -> None:
    site = Site(lost_after_s=0.02)
    await site.show("robin")
    seen_ns = time.time_ns()
    site.look("robin", at_ns=seen_ns)
    for reason in ("Unplugged.", "Still unplugged."):
        site.recorder.camera_changed("front", CameraStatus("frozen", reason))
    ended = await site.until(2)
    assert ended.type == "end"
    assert abs(ended.seen_ns - seen_ns) < SECOND_NS
    site.look("robin")  # a frozen camera sends its last picture again and again
    await site.settle()
    assert len(site.events) == 2
    site.recorder.camera_changed("front", CameraStatus("online"))
    site.look("wren")
    await site.settle()
    assert len(site.events) == 2
    site.look("robin")
    begun = await site.until(3)
    assert (begun.type, begun.label) == ("begin", "robin")
    assert begun.id != ended.id


async def test_close_ends_every_event() -> None:
    site = Site()
    await site.show("robin")
    await site.show("open", spot=DOOR)
    await site.recorder.close()
    assert site.said[2:] == [("end", "robin"), ("end", "open")]
    assert site.is_closed
    site.look("robin")
    await site.show("wren")
    assert len(site.events) == 4


async def test_events_that_a_killed_agent_left_open_are_announced() -> None:
    former = an_event()
    site = Site((former,))
    await site.recorder.start()
    assert site.events == [former]


async def test_begin_and_end_wait_for_the_frame() -> None:
    site = Site()
    may_go = threading.Event()

    def slow(max_side: int, *, quality: int = 85) -> bytes:
        assert (max_side, quality) == (480, 85)
        assert may_go.wait(10)
        return b"late"

    site.recorder.state_changed(FRONT, a_state("robin"))
    site.recorder.looked(a_result("robin"), no_best, slow)
    site.recorder.state_changed(FRONT, a_state("wren"))
    site.look("wren")
    await site.until(1)
    assert ("begin", "robin") not in site.said
    may_go.set()
    await site.until(3)
    await site.settle()
    robin = [event for event in site.events if event.label == "robin"]
    assert [(event.type, event.has_frame) for event in robin] == [("begin", True), ("end", True)]


async def test_an_event_without_a_picture_is_an_event() -> None:
    site = Site()

    def damaged(max_side: int, *, quality: int = 85) -> bytes:
        raise ImageDamagedError("It is damaged.")

    site.recorder.state_changed(FRONT, a_state("robin"))
    site.recorder.looked(a_result("robin"), no_best, damaged)
    begun = await site.until(1)
    assert (begun.has_frame, begun.to_json()["frame"]) == (False, None)
    site.recorder.looked(a_result("robin", 0.99), no_best, damaged)
    await site.settle()
    assert site.said == [("begin", "robin")]
    site.look("robin", 0.98)
    assert (await site.until(2)).has_frame


async def test_no_frame_is_made_if_none_is_wanted() -> None:
    site = Site(frames=False)
    site.recorder.state_changed(FRONT, a_state("robin"))

    def never(max_side: int, *, quality: int = 85) -> bytes:
        raise AssertionError

    picture: Picture = never
    site.recorder.looked(a_result("robin", 0.6), no_best, picture)
    site.recorder.looked(a_result("robin", 0.9), no_best, picture)
    assert site.said == [("begin", "robin"), ("update", "robin")]
    assert (site.events[1].has_frame, site.events[1].best["categories"][0]["score"]) == (False, 0.9)


async def test_a_clock_that_is_set_changes_no_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    real_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() - 10**9 * 86_400 * 365)
    await site.show("robin")
    monkeypatch.setattr(time, "time_ns", real_ns)
    await site.show(None)
    assert site.events[1].to_json()["duration_s"] < 60
    assert site.events[1].seen_ns - site.events[1].started_ns < 60 * SECOND_NS
