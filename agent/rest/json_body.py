"""JSON body: reads the small JSON objects that the routes below /api take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from agent.rest.upload import refuse_compressed

if TYPE_CHECKING:
    from starlette.requests import Request

_MAX_BYTES = 4096
NOTHING = {"type": "object", "maxProperties": 0}


def request_body(schema: dict[str, Any]) -> dict[str, Any]:
    """The `requestBody` of a route in the OpenAPI description."""
    return {"content": {"application/json": {"schema": schema}}, "required": True}


async def expect_nothing(request: Request, *, or_else: str = "Send no body or {}.") -> None:
    """Raises HTTPException with the sentence `or_else` if the object has a field."""
    if await read_object(request):
        raise HTTPException(400, or_else)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object; empty without a body. Raises HTTPException.

    The Content-Type header protects against cross-site requests: before a foreign web page may send it, the
    browser makes a CORS preflight request, which the agent does not grant.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "Send the header Content-Type: application/json.")
    refuse_compressed(request)
    body = await _read(request)
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise HTTPException(400, "The body is not a JSON object.")
    return document


async def _read(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise HTTPException(413, f"The body has more than {_MAX_BYTES} bytes. Send only the fields of this route.")
    return body
