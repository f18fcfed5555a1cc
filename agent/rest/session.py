"""Session: signs a browser in and out: GET, POST and DELETE /api/session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import JSONResponse, Response

from agent.rest.access import refused, session_cookie
from agent.rest.json_body import read_object, request_body
from agent.rest.openapi import answers
from agent.rest.route_scopes import needs
from agent.rest.upload import client_address
from agent.security.access import COOKIE, Refusal
from agent.security.sessions import LIFETIME_S
from agent.security.tokens import SCOPES

if TYPE_CHECKING:
    from agent.security.access import Guard
    from agent.security.tokens import Scope

_TOKEN = {
    "type": "object",
    "properties": {"token": {"type": "string"}},
    "required": ["token"],
    "additionalProperties": False,
}


def session_router(guard: Guard, *, base_path: str) -> APIRouter:
    """Free for everyone, since a stranger must be able to sign in."""
    router = APIRouter(prefix="/api/session", tags=["page"])

    def document(scope: Scope | None) -> dict[str, Any]:
        return {"needs_token": guard.needs_token, "scope": scope}

    def set_cookie(answer: Response, request: Request, value: str, *, max_age_s: int) -> Response:
        answer.set_cookie(
            COOKIE,
            value,
            max_age=max_age_s,
            path=base_path or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    @router.get("", openapi_extra=needs(None, responses=answers("Session")))
    async def show(request: Request) -> JSONResponse:
        """Says whether a token is needed, and what this request may do."""
        return JSONResponse(document(_scope_of(request)))

    @router.post("", openapi_extra=needs(None, requestBody=request_body(_TOKEN), responses=_SIGNED_IN))
    async def sign_in(request: Request) -> Response:
        """Exchanges an access token for a cookie that holds for 12 hours, unless the token is revoked before."""
        body = await read_object(request)
        given = body.get("token")
        if body.keys() != {"token"} or not isinstance(given, str):
            raise HTTPException(400, 'Send only the access token: {"token": "edge_..."}.')
        outcome = guard.sign_in(given)
        if isinstance(outcome, Refusal):
            return await refused(guard, outcome, "read", client_address(request.scope))
        if outcome is None:  # everyone may do everything
            return JSONResponse(document(SCOPES[-1]))
        token, cookie = outcome
        return set_cookie(JSONResponse(document(token.scope)), request, cookie, max_age_s=LIFETIME_S)

    @router.delete("", openapi_extra=needs(None, responses=answers("Session")))
    async def sign_out(request: Request) -> Response:
        """Ends the session and removes the cookie."""
        guard.sign_out(session_cookie(request.scope["headers"]))
        return set_cookie(JSONResponse(document(_scope_of(request))), request, "", max_age_s=0)

    return router


def _scope_of(request: Request) -> Scope | None:
    return next((scope for scope in reversed(SCOPES) if request.scope["may"](scope)), None)


_SIGNED_IN = answers("Session", 401, 413, 415, 429)
