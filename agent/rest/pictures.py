"""Pictures of a camera, as its model sees it: GET /api/cameras/{camera}/snapshot.jpg and stream.mjpg.

Those of a named view are below /api/cameras/{camera}/views/{view}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from starlette.exceptions import HTTPException
from starlette.responses import Response

from agent.classification import Spot
from agent.inference.share import Share
from agent.rest.openapi import errors, media
from agent.rest.route_scopes import needs
from agent.rest.stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from fastapi import APIRouter

_MAX_READERS = 100
_STREAM = "multipart/x-mixed-replace; boundary=picture"
_BOUNDARY = b"--picture\r\n"


class Pictures(Protocol):
    @property
    def has_one(self) -> bool: ...
    async def after(self, number: int) -> tuple[int, bytes] | None: ...


class Cameras(Protocol):
    def pictures(self, spot: Spot) -> Pictures | None:
        """None while the camera is switched off, and for a view that does not exist."""


class _Shown:
    def __init__(self, cameras: Cameras, find: Callable[[str], dict[str, Any]]) -> None:
        self._cameras = cameras
        self._find = find
        busy = "Too many pages show pictures of this agent. Close some of them."
        self._places = Share(_MAX_READERS, guaranteed=8, busy=busy)

    async def newest(self, spot: Spot) -> Response:
        status, pictures = self._of(spot)
        picture = await pictures.after(0) if pictures is not None and pictures.has_one else None
        if picture is None:
            raise _missing(status)
        return Response(picture[1], media_type="image/jpeg")

    def stream(self, spot: Spot) -> Stream:
        status, pictures = self._of(spot)
        if pictures is None:
            raise _missing(status)
        return Stream(lambda: _parts(pictures), media_type=_STREAM, places=self._places)

    def _of(self, spot: Spot) -> tuple[dict[str, Any], Pictures | None]:
        status = self._find(spot.camera)
        if spot.view is not None and spot.view not in [view["name"] for view in status.get("views", ())]:
            raise HTTPException(404, f"Camera {spot.camera} has no view {spot.view}. GET /api/cameras lists the views.")
        return status, self._cameras.pictures(spot)


def add_picture_routes(router: APIRouter, cameras: Cameras, *, find: Callable[[str], dict[str, Any]]) -> None:
    """`find` returns the status of a camera, or raises HTTPException."""
    shown = _Shown(cameras, find)
    one = needs("read", responses={**media("image/jpeg", "The newest picture."), **errors(404)})
    many = needs("read", responses={**media(_STREAM, "Pictures, without an end."), **errors(404)})

    @router.get("/{camera}/snapshot.jpg", response_class=Response, openapi_extra=one)
    async def snapshot(camera: str) -> Response:
        """Returns the newest picture, as the model sees it; the longer side has at most 640 pixels."""
        return await shown.newest(Spot(camera))

    @router.get("/{camera}/stream.mjpg", response_class=Response, openapi_extra=many)
    async def stream(camera: str) -> Stream:
        """Sends at most five pictures per second, until the camera is switched off; a slow client gets fewer."""
        return shown.stream(Spot(camera))

    @router.get("/{camera}/views/{view}/snapshot.jpg", response_class=Response, openapi_extra=one)
    async def snapshot_of_view(camera: str, view: str) -> Response:
        """Returns the newest picture of one view."""
        return await shown.newest(Spot(camera, view))

    @router.get("/{camera}/views/{view}/stream.mjpg", response_class=Response, openapi_extra=many)
    async def stream_of_view(camera: str, view: str) -> Stream:
        """Sends the pictures of one view."""
        return shown.stream(Spot(camera, view))


def _missing(status: dict[str, Any]) -> HTTPException:
    why = status["reason"] or "Retry in a few seconds, or switch the camera on if it is off."
    sentence = f"Camera {status['name']} is {status['state']} and has no picture. {why}"
    return HTTPException(503, sentence, {"Retry-After": "2"})


async def _parts(pictures: Pictures) -> AsyncGenerator[bytes]:
    """The boundary follows each picture at once: a browser shows a picture when the next one begins."""
    yield _BOUNDARY
    number = 0
    while (picture := await pictures.after(number)) is not None:
        number, jpeg = picture
        head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
        yield b"".join((head, jpeg, b"\r\n", _BOUNDARY))
