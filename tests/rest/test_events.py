"""The routes of /api/events, with a real store."""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from agents.fake_agent import FakeModels, rest_app
from agents.site import site
from events.made import MINUTE_NS, START_NS, an_event

from agent.classification import Spot
from agent.errors import StoreError
from agent.events.store import EventStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from agent.event import Event, Wanted
    from agent.rest.events import Events

pytestmark = pytest.mark.anyio

DOOR = Spot("back", "door")
# One per minute: START_NS is 2027-01-15T08:00:00Z.
IDS = [f"01MCC5TEK0000000000000000{number}" for number in range(4)]
EVENTS = [
    an_event("robin", event_id=IDS[0], at_ns=START_NS, has_frame=True),
    an_event("=1+1", event_id=IDS[1], at_ns=START_NS + MINUTE_NS),
    an_event("owl", event_id=IDS[2], at_ns=START_NS + 2 * MINUTE_NS, spot=DOOR),
    an_event("robin", event_id=IDS[3], at_ns=START_NS + 61 * MINUTE_NS, kind="begin"),
]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EventStore]:
    store = EventStore(tmp_path / "events.db", max_events=1000, max_bytes=10**8)
    await store.open()
    for event in EVENTS:
        store.put(event, b"jpeg" if event.has_frame else None)
    yield store
    await store.close()


async def ask(events: Events | None, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(rest_app(FakeModels(), events=events))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(f"/api/events{path}")


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [event["id"] for event in answer.json()["events"]]


async def test_events_are_listed_with_the_newest_first(store: EventStore) -> None:
    answer = await ask(store, "")
    assert answer.json()["events"] == [event.to_json() for event in reversed(EVENTS)]
    assert ids(await ask(store, "?limit=2")) == IDS[:1:-1]
    assert ids(await ask(store, f"?limit=2&before={IDS[2]}")) == IDS[1::-1]
    robin, _, owl, newest = EVENTS
    assert robin.to_json() == {
        "id": robin.id,
        "type": "end",
        "camera": "front",
        "label": "robin",
        "started_at": "2027-01-15T08:00:00.000Z",
        "ended_at": "2027-01-15T08:00:05.000Z",
        "duration_s": 5.0,
        "model": robin.best["model"],
        "best": robin.best,
        "frame": f"/api/events/{robin.id}/frame.jpg",
    }
    assert (owl.to_json()["view"], owl.to_json()["frame"]) == ("door", None)
    assert (newest.to_json()["ended_at"], newest.to_json()["duration_s"]) == (None, 5.0)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("camera=back", [2]),
        ("camera=back&view=door", [2]),
        ("camera=back&view=gate", []),
        ("label=robin", [3, 0]),
        ("label=robin&camera=front&to=2027-01-15T08:00:01Z", [0]),
        ("from=2027-01-15T08:02:00Z", [3, 2]),
        ("from=2027-01-15T10:02:00%2B02:00", [3, 2]),
        ("from=2027-01-15T10:02:00+02:00", [3, 2]),  # the + arrives as a space
        ("from=2027-01-15T08:02:00.001z", [3]),
        ("to=2027-01-15", []),
        ("to=2027-01-16", [3, 2, 1, 0]),
    ],
)
async def test_events_are_filtered(store: EventStore, query: str, found: list[int]) -> None:
    assert ids(await ask(store, f"?{query}")) == [IDS[number] for number in found]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("?cameras=front", "Unknown parameter cameras. Supported: camera, view, label, from, to, limit, before."),
        ("/counts?limit=3", "Unknown parameter limit. Supported: camera, view, label, from, to."),
        (".csv?before=x", "Unknown parameter before. Supported: camera, view, label, from, to."),
        ("?limit=0", "limit must be an integer from 1 to 500."),
        ("?limit=501", "limit must be an integer from 1 to 500."),
        ("?limit=many", "limit must be an integer from 1 to 500."),
        ("?view=door", "view needs camera: views of different cameras may have the same name."),
        ("?to=noon", "to must be a time such as 2026-11-29T10:00:00Z or a day such as 2026-11-29."),
        ("?from=2026-11-29T10:00:00", "from must be a time such as 2026-11-29T10:00:00Z or a day such as 2026-11-29."),
        (".csv?from=2026-02-30", "from must be a time such as 2026-11-29T10:00:00Z or a day such as 2026-11-29."),
    ],
)
async def test_a_bad_parameter_is_refused_with_a_sentence(store: EventStore, query: str, sentence: str) -> None:
    answer = await ask(store, query)
    assert (answer.status_code, answer.json()) == (400, {"error": sentence})


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"])
async def test_the_ends_of_time_are_accepted(store: EventStore, time: str) -> None:
    assert ids(await ask(store, f"?from={time}&to={time}")) == []


async def test_an_event_and_its_frame_are_shown(store: EventStore) -> None:
    assert (await ask(store, f"/{IDS[0]}")).json() == EVENTS[0].to_json()
    frame = await ask(store, f"/{IDS[0]}/frame.jpg")
    assert (frame.status_code, frame.headers["content-type"], frame.content) == (200, "image/jpeg", b"jpeg")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/x", "Event x does not exist, or newer ones took its place."),
        ("/x/frame.jpg", "Event x has no frame, or newer ones took its place."),
        (f"/{IDS[1]}/frame.jpg", f"Event {IDS[1]} has no frame, or newer ones took its place."),
    ],
)
async def test_what_is_missing_is_not_found(store: EventStore, path: str, sentence: str) -> None:
    answer = await ask(store, path)
    assert (answer.status_code, answer.json()) == (404, {"error": sentence})


async def test_counts_are_per_label_and_hour(store: EventStore) -> None:
    answer = await ask(store, "/counts?from=2027-01-01")
    assert answer.json() == {
        "counts": [
            {"hour": "2027-01-15T08:00:00.000Z", "label": "=1+1", "events": 1},
            {"hour": "2027-01-15T08:00:00.000Z", "label": "owl", "events": 1},
            {"hour": "2027-01-15T08:00:00.000Z", "label": "robin", "events": 1},
            {"hour": "2027-01-15T09:00:00.000Z", "label": "robin", "events": 1},
        ]
    }


async def test_counts_are_those_of_a_day_if_no_begin_is_given(store: EventStore) -> None:
    assert len((await ask(store, "/counts?to=2027-01-16T08:00:00Z")).json()["counts"]) == 4
    assert len((await ask(store, "/counts?to=2027-01-16T08:30:00Z")).json()["counts"]) == 1
    assert (await ask(store, "/counts?to=2027-01-17")).json() == {"counts": []}


async def downloaded(events: Events, query: str = "") -> tuple[httpx.Headers, list[list[str]]]:
    """The headers and the rows, over a real connection, since a stream ends with it."""
    async with (
        site(rest_app(FakeModels(), events=events)) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client,
    ):
        answer = await client.get(f"/api/events.csv{query}")
    return answer.headers, list(csv.reader(io.StringIO(answer.text, newline="")))


async def test_csv_has_a_line_per_event_and_no_formula(store: EventStore) -> None:
    headers, rows = await downloaded(store)
    assert headers["content-type"] == "text/csv; charset=utf-8"
    assert headers["content-disposition"] == 'attachment; filename="events.csv"'
    columns, *lines = rows
    assert [dict(zip(columns, line, strict=True))["id"] for line in lines] == IDS[::-1]
    assert dict(zip(columns, lines[1], strict=True)) == {
        "id": IDS[2],
        "camera": "back",
        "view": "door",
        "label": "owl",
        "started_at": "2027-01-15T08:02:00.000Z",
        "ended_at": "2027-01-15T08:02:05.000Z",
        "duration_s": "5.0",
        "model": "birds",
        "version": "2",
        "score": "0.9",
        "best_at": "2027-01-15T08:02:00.000Z",
    }
    assert lines[2][3] == "'=1+1"
    assert (lines[0][5], lines[0][2]) == ("", "")


async def test_csv_has_only_the_wanted_events(store: EventStore) -> None:
    _, rows = await downloaded(store, "?label=robin&camera=front&from=2027-01-15T09:00:00Z")
    assert [row[0] for row in rows] == ["id", IDS[3]]


class ManyEvents:
    """Gives pages of an endless list, and fails at the third page if `trouble` is set."""

    def __init__(self, pages: int, *, trouble: str | None = None) -> None:
        self.limits: list[int] = []
        self._pages = pages
        self._trouble = trouble
        self._event = an_event()

    async def find(self, wanted: Wanted, *, limit: int, before: str | None = None) -> Sequence[Event]:
        self.limits.append(limit)
        if self._trouble and len(self.limits) == 3:
            raise StoreError(self._trouble)
        return [self._event] * limit if len(self.limits) <= self._pages else []

    async def get(self, event_id: str) -> Event | None:
        return replace(self._event, id=event_id)

    async def frame(self, event_id: str) -> bytes | None:
        raise NotImplementedError

    async def counts(self, wanted: Wanted) -> Sequence[tuple[int, str, int]]:
        raise NotImplementedError


async def test_csv_is_read_in_pages() -> None:
    events = ManyEvents(5)
    _, rows = await downloaded(events)
    assert len(rows) == 5 * 500 + 1
    assert events.limits == [500] * 6


async def test_csv_says_at_its_end_that_it_is_not_whole() -> None:
    _, rows = await downloaded(ManyEvents(5, trouble="The disk is full."))
    assert len(rows) == 2 * 500 + 2
    assert rows[-1] == ["error: The disk is full."]


class WaitingEvents(ManyEvents):
    """Gives no page before `may_go` is set."""

    def __init__(self) -> None:
        super().__init__(0)
        self.may_go = asyncio.Event()

    async def find(self, wanted: Wanted, *, limit: int, before: str | None = None) -> Sequence[Event]:
        found = await super().find(wanted, limit=limit, before=before)
        await self.may_go.wait()
        return found


@pytest.mark.parametrize("path", ["", ".csv"])
async def test_one_client_cannot_keep_the_thread_that_reads(path: str) -> None:
    events = WaitingEvents()
    transport = httpx.ASGITransport(rest_app(FakeModels(), events=events))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        asking = [asyncio.ensure_future(client.get(f"/api/events{path}")) for _ in range(20)]
        while len(events.limits) + sum(each.done() for each in asking) < 20:  # noqa: ASYNC110  (nothing announces it)
            await asyncio.sleep(0.001)
        assert len(events.limits) == 12
        events.may_go.set()
        await asyncio.wait(asking)


@pytest.mark.parametrize("path", ["", ".csv", "/counts", "/x", "/x/frame.jpg"])
async def test_a_failing_disk_is_answered_with_503(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    store = EventStore(tmp_path / "file" / "events.db", max_events=9, max_bytes=10**6)
    answer = await ask(store, path)
    assert answer.status_code == 503
    assert answer.json()["error"].startswith(f"Cannot write the events in {tmp_path / 'file'}: ")
    await store.close()


@pytest.mark.parametrize("path", ["", ".csv", "/counts", "/x", "/x/frame.jpg"])
async def test_every_route_says_that_events_are_off(path: str) -> None:
    answer: Any = await ask(None, path)
    assert (answer.status_code, answer.json()["error"]) == (
        404,
        "Events are not recorded. Set events.enabled: true in the agent's configuration and restart it.",
    )
