"""Events: what the views have shown, stored with the best frames: GET /api/events and below, /api/events.csv."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import JSONResponse, Response

from agent.classification import iso_time
from agent.errors import StoreError
from agent.event import Wanted
from agent.inference.share import Share
from agent.rest.openapi import answers, errors, media
from agent.rest.query import known_query
from agent.rest.route_scopes import needs
from agent.rest.stream import Stream
from agent.rest.upload import client_address

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from agent.event import Event

_MAX_READERS = 16  # of the one thread that reads
_MAX_DOWNLOADS = 4
_MAX_PAGE = 500
_DEFAULT_PAGE = 50
_DAY_MS = 86_400_000

_TEXT: dict[str, Any] = {"type": "string"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_WANTED = {
    "camera": (_TEXT, "Only events of this camera."),
    "view": (_TEXT, "Only events of this view of the camera."),
    "label": (_TEXT, "Only events with this label."),
    "from": (_TIME, "Only events that began at this time or later, such as 2026-11-29T10:00:00Z or 2026-11-29 (UTC)."),
    "to": (_TIME, "Only events that began before this time."),
}
_PAGED = {
    **_WANTED,
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": _MAX_PAGE, "default": _DEFAULT_PAGE},
        "At most so many events.",
    ),
    "before": (_TEXT, "Go on after the event with this id, with older ones."),
}
_COLUMNS = (
    *("id", "camera", "view", "label", "started_at", "ended_at", "duration_s"),
    *("model", "version", "score", "best_at"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_OFF = "Events are not recorded. Set events.enabled: true in the agent's configuration and restart it."


class Events(Protocol):
    """All raise StoreError while the disk fails."""

    async def find(self, wanted: Wanted, *, limit: int, before: str | None = None) -> Sequence[Event]: ...
    async def get(self, event_id: str) -> Event | None: ...
    async def frame(self, event_id: str) -> bytes | None: ...
    async def counts(self, wanted: Wanted) -> Sequence[tuple[int, str, int]]:
        """The begin of the hour in milliseconds of Unix time, the label, the number of events."""


def events_router(events: Events | None) -> APIRouter:
    """Without `events`, each route says that they are off."""
    router = APIRouter(prefix="/api", tags=["events"])
    readers = Share(_MAX_READERS, guaranteed=4, busy="Too many requests read the events. Retry later.")
    downloads = Share(_MAX_DOWNLOADS, guaranteed=1, busy="Too many clients download the events. Retry later.")

    def stored() -> Events:
        if events is None:
            raise HTTPException(404, _OFF)
        return events

    @router.get("/events", openapi_extra=_reading(_PAGED, answers("Events", 404)))
    async def list_events(request: Request) -> Response:
        """Lists the newest events first. For the next page, repeat the request with `before`, the last one's id."""
        store, query = stored(), known_query(request, _PAGED)
        limit, before = _limit(query), query.get("before")
        with readers.held(client_address(request.scope), 1):
            found = await store.find(_wanted(query), limit=limit, before=before)
            content = await asyncio.to_thread(_listed, found)  # the longest page has 400 kB
        return Response(content, media_type="application/json")

    @router.get(
        "/events.csv",
        response_class=Response,
        openapi_extra=_reading(_WANTED, {**media("text/csv", "One line per event."), **errors(404)}),
    )
    async def download(request: Request) -> Stream:
        """Sends all events as CSV, the newest first."""
        store, wanted = stored(), _wanted(known_query(request, _WANTED))
        with readers.held(client_address(request.scope), 1):
            first = await store.find(wanted, limit=_MAX_PAGE)
        answer = Stream(lambda: _csv(store, wanted, first), media_type="text/csv", places=downloads)
        answer.headers["Content-Disposition"] = 'attachment; filename="events.csv"'
        return answer

    @router.get("/events/counts", openapi_extra=_reading(_WANTED, answers("EventCounts", 404)))
    async def count(request: Request) -> Response:
        """Counts the events per label and hour (UTC) in which they began; without `from`, those of 24 hours."""
        store, wanted = stored(), _wanted(known_query(request, _WANTED), default_ms=_DAY_MS)
        with readers.held(client_address(request.scope), 1):
            counts = await store.counts(wanted)
            content = await asyncio.to_thread(_counted, counts)  # there may be a hundred thousand
        return Response(content, media_type="application/json")

    @router.get("/events/{event}", openapi_extra=needs("read", responses=answers("Event", 404)))
    async def show(event: str, request: Request) -> JSONResponse:
        with readers.held(client_address(request.scope), 1):
            found = await stored().get(event)
        if found is None:
            raise HTTPException(404, f"Event {event} does not exist, or newer ones took its place.")
        return JSONResponse(found.to_json())

    @router.get(
        "/events/{event}/frame.jpg",
        response_class=Response,
        openapi_extra=needs("read", responses={**media("image/jpeg", "Its best frame."), **errors(404)}),
    )
    async def frame(event: str, request: Request) -> Response:
        """Returns what the view showed when the score was best; the longer side has at most 480 pixels."""
        with readers.held(client_address(request.scope), 1):
            jpeg = await stored().frame(event)
        if jpeg is None:
            raise HTTPException(404, f"Event {event} has no frame, or newer ones took its place.")
        return Response(jpeg, media_type="image/jpeg")

    return router


def _reading(parameters: dict[str, tuple[dict[str, Any], str]], responses: dict[str, Any]) -> dict[str, Any]:
    described = [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
        for name, (schema, description) in parameters.items()
    ]
    return needs("read", parameters=described, responses=responses)


def _wanted(query: dict[str, str], *, default_ms: int | None = None) -> Wanted:
    """`default_ms`: without `from`, only so much time until `to`."""
    from_ms, to_ms = _milliseconds(query, "from"), _milliseconds(query, "to")
    if from_ms is None and default_ms is not None:
        from_ms = (time.time_ns() // 1_000_000 if to_ms is None else to_ms) - default_ms
    return Wanted(query.get("camera"), query.get("view"), query.get("label"), from_ms, to_ms)


def _milliseconds(query: dict[str, str], name: str) -> int | None:
    if name not in query:
        return None
    text = re.sub(r"[Zz]$", "+00:00", query[name])
    text = re.sub(r" (?=\d\d:\d\d$)", "+", text)  # a + in a query means a space
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    is_day = bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text))
    if moment is None or (moment.tzinfo is None and not is_day):
        raise HTTPException(400, f"{name} must be a time such as 2026-11-29T10:00:00Z or a day such as 2026-11-29.")
    return round((moment.replace(tzinfo=timezone.utc) if is_day else moment).timestamp() * 1000)


def _limit(query: dict[str, str]) -> int:
    text = query.get("limit", str(_DEFAULT_PAGE))
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= _MAX_PAGE:
        raise HTTPException(400, f"limit must be an integer from 1 to {_MAX_PAGE}.")
    return int(text)


async def _csv(store: Events, wanted: Wanted, page: Sequence[Event]) -> AsyncGenerator[bytes]:
    yield _lines([_COLUMNS])
    try:
        while page:
            yield await asyncio.to_thread(_rows, page)
            page = await store.find(wanted, limit=_MAX_PAGE, before=page[-1].id)
    except StoreError as error:  # the answer has begun, so its code is 200
        yield _lines([[f"error: {error}"]])


def _rows(page: Sequence[Event]) -> bytes:
    return _lines(_row(event.to_json()) for event in page)


def _row(event: dict[str, Any]) -> list[object]:
    best = event["best"]
    score = next((each["score"] for each in best["categories"] if each["label"] == event["label"]), None)
    model = event["model"]
    row = (*(event.get(name) for name in _COLUMNS[:7]), model["name"], model["version"], score, best["captured_at"])
    return [f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value for value in row]


def _lines(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="replace")


def _listed(events: Sequence[Event]) -> bytes:
    return _encoded({"events": [event.to_json() for event in events]})


def _counted(counts: Sequence[tuple[int, str, int]]) -> bytes:
    hours = [{"hour": iso_time(ms * 1_000_000), "label": label, "events": number} for ms, label, number in counts]
    return _encoded({"counts": hours})


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
