"""Models: their versions, and what a person may do with them: GET and POST /api/models."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.status import ModelStatus

_MAX_BODY_BYTES = 4096
_VERSION = {"type": "object", "properties": {"version": {"type": "integer"}}, "required": ["version"]}


class Models(Protocol):
    """Each may raise ModelNotFoundError, VersionError, StoreError, and ModelError where a version does not load."""

    @property
    def statuses(self) -> Sequence[ModelStatus]: ...
    async def rollback(self, name: str) -> None: ...
    async def pin(self, name: str, version: int) -> None: ...
    async def unpin(self, name: str) -> None: ...
    async def promote(self, name: str) -> None: ...


def models_router(models: Models, *, timeout_s: float) -> APIRouter:
    """A body that has not arrived after `timeout_s` is given up."""
    router = APIRouter(prefix="/api/models", tags=["models"])

    def status_now(name: str) -> dict[str, Any]:
        return find_status(models.statuses, name).to_json()

    @router.get("")
    async def list_models() -> dict[str, Any]:
        """Every model with its versions, what is on its way and what was rejected last."""
        return {"models": [status.to_json() for status in models.statuses]}

    @router.get("/{name}")
    async def show(name: str) -> dict[str, Any]:
        return status_now(name)

    @router.post("/{name}/rollback", openapi_extra=_documented({"type": "object"}))
    async def rollback(name: str, request: Request) -> dict[str, Any]:
        """Withdraws the canary or, where there is none, the serving version: the last good one serves."""
        await _take_nothing(request, timeout_s)
        await models.rollback(name)
        return status_now(name)

    @router.post("/{name}/pin", openapi_extra=_documented(_VERSION))
    async def pin(name: str, request: Request) -> dict[str, Any]:
        """Serves this very version until it is unpinned, whatever is dropped meanwhile."""
        version = await _take_version(request, timeout_s)
        await models.pin(name, version)
        return status_now(name)

    @router.post("/{name}/unpin", openapi_extra=_documented({"type": "object"}))
    async def unpin(name: str, request: Request) -> dict[str, Any]:
        await _take_nothing(request, timeout_s)
        await models.unpin(name)
        return status_now(name)

    @router.post("/{name}/promote", openapi_extra=_documented({"type": "object"}))
    async def promote(name: str, request: Request) -> dict[str, Any]:
        """The canary becomes the serving version."""
        await _take_nothing(request, timeout_s)
        await models.promote(name)
        return status_now(name)

    return router


def find_status(statuses: Sequence[ModelStatus], name: str) -> ModelStatus:
    """Raises HTTPException 404."""
    found = next((status for status in statuses if status.name == name), None)
    if found is None:
        raise HTTPException(404, f"There is no model {name}. GET /v1/models lists what there is.")
    return found


async def _take_nothing(request: Request, timeout_s: float) -> None:
    if await _read_object(request, timeout_s):
        raise HTTPException(400, 'Send no body, or {}. To choose a version: POST .../pin with {"version": 3}.')


async def _take_version(request: Request, timeout_s: float) -> int:
    document = await _read_object(request, timeout_s)
    version = str(document.get("version"))
    if document.keys() != {"version"} or not re.fullmatch("[0-9]{1,18}", version):
        raise HTTPException(400, 'Send the version as a whole number and nothing else: {"version": 3}.')
    return int(version)


async def _read_object(request: Request, timeout_s: float) -> dict[str, Any]:
    """The body as a JSON object, empty where there is none.

    The header is asked for since a stranger's web page cannot send it to a device on its reader's network:
    the browser asks first, by CORS, and gets no leave.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "Send the header Content-Type: application/json.")
    try:
        with anyio.fail_after(timeout_s):
            body = await _read_body(request)
    except TimeoutError:
        raise HTTPException(408, f"The body did not arrive within {timeout_s:.0f} s. Send it again.") from None
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise HTTPException(400, "The body is not a JSON object.")
    return document


async def _read_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise HTTPException(413, f"The body has more than {_MAX_BODY_BYTES} bytes. A version takes a few.")
    return body


def _documented(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": schema}}, "required": True}}
