"""Pictures of a camera, as its model sees it: GET /api/cameras/{camera}/snapshot.jpg and stream.mjpg."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from starlette.exceptions import HTTPException
from starlette.responses import Response

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
    def pictures(self, name: str) -> Pictures | None:
        """None while the camera is switched off."""


def add_picture_routes(router: APIRouter, cameras: Cameras, *, find: Callable[[str], dict[str, Any]]) -> None:
    """`find` returns the status of a camera, or raises HTTPException."""
    places = Share(_MAX_READERS, guaranteed=8, busy="Too many pages show pictures of this agent. Close some of them.")

    @router.get(
        "/{camera}/snapshot.jpg",
        response_class=Response,
        openapi_extra=needs("read", responses={**media("image/jpeg", "The newest picture."), **errors(404)}),
    )
    async def snapshot(camera: str) -> Response:
        """Returns the newest picture, as the model sees it; the longer side has at most 640 pixels."""
        status, pictures = find(camera), cameras.pictures(camera)
        picture = await pictures.after(0) if pictures is not None and pictures.has_one else None
        if picture is None:
            raise _missing(status)
        return Response(picture[1], media_type="image/jpeg")

    @router.get(
        "/{camera}/stream.mjpg",
        response_class=Response,
        openapi_extra=needs("read", responses={**media(_STREAM, "Pictures, without an end."), **errors(404)}),
    )
    async def stream(camera: str) -> Stream:
        """Sends at most five pictures per second, until the camera is switched off; a slow client gets fewer."""
        status, pictures = find(camera), cameras.pictures(camera)
        if pictures is None:
            raise _missing(status)
        return Stream(lambda: _parts(pictures), media_type=_STREAM, places=places)


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
