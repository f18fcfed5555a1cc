"""Status: liveness, readiness and Prometheus metrics: GET /healthz, /readyz and /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import JSONResponse, PlainTextResponse, Response

from agent.rest.openapi import READINESS, answers
from agent.rest.route_scopes import needs

if TYPE_CHECKING:
    from collections.abc import Sequence


class Liveness(Protocol):
    def stuck(self) -> str | None:
        """What only a restart can fix, as a sentence."""


class Health(Liveness, Protocol):
    """Sentences: why the device is not ready, and what a person should fix."""

    def why_not_ready(self) -> Sequence[str]: ...
    def warnings(self) -> Sequence[str]: ...
    def mqtt(self) -> dict[str, Any] | None: ...


class Metrics(Protocol):
    def render(self) -> bytes: ...


def why_stuck(health: Liveness, request: Request) -> str | None:
    """As much as the client may know; None if nothing is stuck."""
    reason = health.stuck()
    return reason if reason is None or request.scope["granted"] else "The agent must be restarted; its log says why."


def status_router(*, health: Health, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["status"])

    @router.get("/healthz", openapi_extra=needs(None, responses=answers("Liveness")))
    async def healthz(request: Request) -> JSONResponse:
        """Returns 200 while the process works, 503 with the reason if only a restart will help.

        Without a token, the reason is not shown.
        """
        if sentence := why_stuck(health, request):
            return JSONResponse({"error": sentence}, 503)
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", openapi_extra=needs(None, responses=READINESS))
    async def readyz(request: Request) -> JSONResponse:
        """Returns 503 with the reasons until a model serves and every enabled camera gives frames.

        The warnings and the state of MQTT are shown but do not affect the code: the agent still answers requests
        when a file is bad or the broker is unreachable. Without a token, only `ready` is shown.
        """
        reasons = list(health.why_not_ready())
        code = 503 if reasons else 200
        if not request.scope["granted"]:
            return JSONResponse({"ready": not reasons}, code)
        document = {
            "ready": not reasons,
            "reasons": reasons,
            "warnings": list(health.warnings()),
            "mqtt": health.mqtt(),
        }
        return JSONResponse(document, code)

    @router.get("/metrics", response_class=PlainTextResponse, openapi_extra=needs("read"))
    async def prometheus() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
