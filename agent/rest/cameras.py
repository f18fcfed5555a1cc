"""Cameras: their status, and switching them off and on: GET and POST /api/cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import JSONResponse

from agent.rest.json_body import NOTHING, expect_nothing, request_body
from agent.rest.openapi import answers
from agent.rest.pictures import Cameras as ShownCameras, add_picture_routes
from agent.rest.route_scopes import needs

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHANGING = needs("admin", requestBody=request_body(NOTHING), responses=answers("Camera", 404, 413, 415))
_RETAKING = needs("admin", requestBody=request_body(NOTHING), responses=answers("Camera", 404, 409, 413, 415))


class Overview(Protocol):
    def cameras(self) -> Sequence[dict[str, Any]]: ...


class Cameras(ShownCameras, Protocol):
    def switch(self, name: str, *, on: bool) -> None: ...
    def retake_reference(self, name: str) -> bool: ...


def cameras_router(cameras: Cameras, *, overview: Overview) -> APIRouter:
    router = APIRouter(prefix="/api/cameras", tags=["cameras"])

    def find(name: str) -> dict[str, Any]:
        found = next((camera for camera in overview.cameras() if camera["name"] == name), None)
        if found is None:
            raise HTTPException(404, f"Camera {name} does not exist. GET /api/cameras lists the cameras.")
        return found

    async def switched(name: str, request: Request, *, on: bool) -> JSONResponse:
        await expect_nothing(request)
        find(name)
        cameras.switch(name, on=on)
        return JSONResponse(find(name))

    @router.get("", openapi_extra=needs("read", responses=answers("Cameras")))
    async def list_cameras() -> JSONResponse:
        """Lists every camera of the configuration with its state and its newest result."""
        return JSONResponse({"cameras": overview.cameras()})

    @router.get("/{camera}", openapi_extra=needs("read", responses=answers("Camera", 404)))
    async def show(camera: str) -> JSONResponse:
        return JSONResponse(find(camera))

    @router.post("/{camera}/enable", openapi_extra=_CHANGING)
    async def enable(camera: str, request: Request) -> JSONResponse:
        """Switches the camera on until the next start, which follows the configuration."""
        return await switched(camera, request, on=True)

    @router.post("/{camera}/disable", openapi_extra=_CHANGING)
    async def disable(camera: str, request: Request) -> JSONResponse:
        """Switches the camera off until the next start: it is closed, and its last picture is forgotten."""
        return await switched(camera, request, on=False)

    @router.post("/{camera}/reference", openapi_extra=_RETAKING)
    async def retake(camera: str, request: Request) -> JSONResponse:
        """Takes another reference picture, with which the camera is compared: that of the next minute."""
        await expect_nothing(request)
        find(camera)
        if not cameras.retake_reference(camera):
            raise HTTPException(
                409,
                f"Camera {camera} has no reference picture: only live cameras have one, not videos, folders and "
                "inboxes, and only with health.enabled.",
            )
        return JSONResponse(find(camera))

    add_picture_routes(router, cameras, find=find)
    return router
