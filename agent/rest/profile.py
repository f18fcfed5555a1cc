"""Profile: which profile changes the settings of the cameras, and choosing another: GET and POST /api/profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)

from agent.rest.json_body import read_object, request_body
from agent.rest.openapi import answers
from agent.rest.route_scopes import needs

if TYPE_CHECKING:
    from agent.status import ProfileStatus

_CHOICE = {
    "type": "object",
    "properties": {"profile": {"type": "string"}},
    "required": ["profile"],
    "additionalProperties": False,
}
_CHOOSING = needs("admin", requestBody=request_body(_CHOICE), responses=answers("Profile", 404, 413, 415))


class Profiles(Protocol):
    @property
    def status(self) -> ProfileStatus: ...
    def choose(self, choice: str) -> None:
        """Raises ProfileNotFoundError."""


def profile_router(profiles: Profiles) -> APIRouter:
    router = APIRouter(prefix="/api/profile", tags=["cameras"])

    @router.get("", openapi_extra=needs("read", responses=answers("Profile")))
    async def show() -> dict[str, Any]:
        """Returns the active profile, what was chosen, and the profiles of the configuration."""
        return profiles.status.to_json()

    @router.post("", openapi_extra=_CHOOSING)
    async def choose(request: Request) -> dict[str, Any]:
        """Chooses a profile until the next start: its name, `none`, or `auto` to let the clock decide."""
        document = await read_object(request)
        choice = document.get("profile")
        if document.keys() != {"profile"} or not isinstance(choice, str):
            raise HTTPException(400, 'Send only the name of the profile: {"profile": "auto"}.')
        profiles.choose(choice)
        return profiles.status.to_json()

    return router
