"""Models: GET and POST /api/models: shows the versions of each model, and rolls back, pins or promotes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)

from agent.rest.json_body import NOTHING, expect_nothing, read_object, request_body
from agent.rest.openapi import answers
from agent.rest.route_scopes import needs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.status import ModelStatus

_NO_VERSION = 'Send no body or {}. To choose a version, POST {"version": 3} to .../pin.'
_VERSION = {
    "type": "object",
    "properties": {"version": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}},
    "required": ["version"],
    "additionalProperties": False,
}


class Models(Protocol):
    """Each may raise ModelNotFoundError, VersionError, StoreError, or ModelError if a version fails to load."""

    @property
    def statuses(self) -> Sequence[ModelStatus]: ...
    async def rollback(self, name: str) -> None: ...
    async def pin(self, name: str, version: int) -> None: ...
    async def unpin(self, name: str) -> None: ...
    async def promote(self, name: str) -> None: ...


def models_router(models: Models) -> APIRouter:
    router = APIRouter(prefix="/api/models", tags=["models"])

    def status_now(name: str) -> dict[str, Any]:
        return find_status(models.statuses, name).to_json()

    @router.get("", openapi_extra=needs("read", responses=answers("Models")))
    async def list_models() -> dict[str, Any]:
        """Lists every model with its versions, its current candidate and its last rejection."""
        return {"models": [status.to_json() for status in models.statuses]}

    @router.get("/{name}", openapi_extra=needs("read", responses=answers("ModelStatus", 404)))
    async def show(name: str) -> dict[str, Any]:
        return status_now(name)

    @router.post("/{name}/rollback", openapi_extra=_changing(NOTHING))
    async def rollback(name: str, request: Request) -> dict[str, Any]:
        """Withdraws the canary or, if there is none, the serving version; the last good version serves again."""
        await expect_nothing(request, or_else=_NO_VERSION)
        await models.rollback(name)
        return status_now(name)

    @router.post("/{name}/pin", openapi_extra=_changing(_VERSION))
    async def pin(name: str, request: Request) -> dict[str, Any]:
        """Serves this version until it is unpinned, even if newer files are dropped."""
        version = await _read_version(request)
        await models.pin(name, version)
        return status_now(name)

    @router.post("/{name}/unpin", openapi_extra=_changing(NOTHING))
    async def unpin(name: str, request: Request) -> dict[str, Any]:
        await expect_nothing(request, or_else=_NO_VERSION)
        await models.unpin(name)
        return status_now(name)

    @router.post("/{name}/promote", openapi_extra=_changing(NOTHING))
    async def promote(name: str, request: Request) -> dict[str, Any]:
        """Makes the canary the serving version."""
        await expect_nothing(request, or_else=_NO_VERSION)
        await models.promote(name)
        return status_now(name)

    return router


def find_status(statuses: Sequence[ModelStatus], name: str) -> ModelStatus:
    """Raises HTTPException 404."""
    found = next((status for status in statuses if status.name == name), None)
    if found is None:
        raise HTTPException(404, f"Model {name} does not exist. GET /v1/models lists the models.")
    return found


async def _read_version(request: Request) -> int:
    document = await read_object(request)
    version = str(document.get("version"))
    if document.keys() != {"version"} or not re.fullmatch("[0-9]{1,18}", version):
        raise HTTPException(400, 'Send only the version, as an integer: {"version": 3}.')
    return int(version)


def _changing(schema: dict[str, Any]) -> dict[str, Any]:
    return needs("admin", requestBody=request_body(schema), responses=answers("ModelStatus", 404, 409, 413, 415))
