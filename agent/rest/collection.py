"""Collection: frames that were kept for training: lists, sends and deletes them: /api/collection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import JSONResponse, Response

from agent.collection.archive import archive
from agent.inference.share import Share
from agent.rest.openapi import answers, errors, media
from agent.rest.query import known_query
from agent.rest.route_scopes import needs
from agent.rest.stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from agent.collection.folder import Collected

_MAX_LISTED = 100
_MAX_DOWNLOADS = 4
_CHOOSING = ("camera", "view")


class Folder(Protocol):
    """Blocks. Each may raise OSError."""

    def frames(self, *, camera: str | None = None, view: str | None = None) -> list[Collected]: ...
    def find(self, frame_id: str) -> Collected | None: ...
    def remove(self, frame: Collected) -> None: ...


def collection_router(folder: Folder) -> APIRouter:
    """In the queries, `camera` and `view` choose the frames of one camera or view."""
    router = APIRouter(prefix="/api/collection", tags=["collection"])
    places = Share(_MAX_DOWNLOADS, guaranteed=2, busy="Too many clients download the collection. Retry later.")

    @router.get("", openapi_extra=needs("admin", responses=answers("Collection")))
    async def list_frames(
        request: Request, camera: str | None = None, view: str | None = None, before: str | None = None
    ) -> JSONResponse:
        """Lists the newest 100 frames; `before` is the id of the last frame of the previous list."""
        known_query(request, (*_CHOOSING, "before"))
        return JSONResponse(await _in_thread(lambda: _listed(folder.frames(camera=camera, view=view), before)))

    @router.get(
        ".zip",
        response_class=Response,
        openapi_extra=needs("admin", responses=media("application/zip", "One folder per label.")),
    )
    async def download(request: Request, camera: str | None = None, view: str | None = None) -> Stream:
        """Sends all frames as a ZIP file, each in the folder of its best label, with its Result beside it."""
        known_query(request, _CHOOSING)
        frames = await _in_thread(lambda: folder.frames(camera=camera, view=view))
        stream = Stream(lambda: _parts(frames), media_type="application/zip", places=places)
        stream.headers["content-disposition"] = 'attachment; filename="collection.zip"'
        return stream

    @router.get(
        "/{frame}.jpg",
        response_class=Response,
        openapi_extra=needs("admin", responses={**media("image/jpeg", "The picture."), **errors(404)}),
    )
    async def picture(frame: str) -> Response:
        """Returns what the model saw, before it was scaled down to the model's input."""
        jpeg = await _in_thread(lambda: _jpeg(folder, frame))
        if jpeg is None:
            raise _missing(frame)
        return Response(jpeg, media_type="image/jpeg")

    @router.delete("/{frame}", openapi_extra=needs("admin", responses=answers("Deleted", 404)))
    async def delete(frame: str) -> JSONResponse:
        found = await _in_thread(lambda: folder.find(frame))
        if found is None:
            raise _missing(frame)
        await _in_thread(lambda: folder.remove(found))
        return JSONResponse({"deleted": 1})

    @router.delete("", openapi_extra=needs("admin", responses=answers("Deleted")))
    async def delete_all(request: Request, camera: str | None = None, view: str | None = None) -> JSONResponse:
        """Deletes all frames."""
        known_query(request, _CHOOSING)

        def removed() -> int:
            frames = folder.frames(camera=camera, view=view)
            for frame in frames:
                folder.remove(frame)
            return len(frames)

        return JSONResponse({"deleted": await _in_thread(removed)})

    return router


def _listed(frames: list[Collected], before: str | None) -> dict[str, Any]:
    shown = [frame for frame in frames if before is None or frame.id < before][:_MAX_LISTED]
    return {
        "frames": [{**frame.document(), **_place(frame), "bytes": frame.size} for frame in shown],
        "count": len(frames),
        "bytes": sum(frame.size for frame in frames),
    }


def _place(frame: Collected) -> dict[str, Any]:
    return {"id": frame.id, "camera": frame.spot.camera, "view": frame.spot.view}


def _jpeg(folder: Folder, frame_id: str) -> bytes | None:
    frame = folder.find(frame_id)
    try:
        return None if frame is None else frame.jpeg.read_bytes()
    except FileNotFoundError:
        return None


async def _parts(frames: list[Collected]) -> AsyncGenerator[bytes]:
    parts = archive(frames)
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        yield part


async def _in_thread(work: Callable[[], Any]) -> Any:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise HTTPException(503, f"The folder with the collected frames cannot be used: {error.strerror}.") from None


def _missing(frame: str) -> HTTPException:
    return HTTPException(404, f"Frame {frame} does not exist. GET /api/collection lists the frames.")
