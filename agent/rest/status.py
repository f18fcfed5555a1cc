"""Status: is the process alive, is it ready for work, what does Prometheus want to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Sequence


class Health(Protocol):
    """Sentences: what only a restart can fix, what keeps the device from its work, what a person should look at."""

    def stuck(self) -> str | None: ...
    def why_not_ready(self) -> Sequence[str]: ...
    def warnings(self) -> Sequence[str]: ...
    def mqtt(self) -> dict[str, Any] | None: ...


class Metrics(Protocol):
    def render(self) -> bytes: ...


def status_router(*, health: Health, metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["status"])

    @router.get("/healthz")
    async def healthz() -> JSONResponse:
        """200 while the process works, 503 with the reason when only a new start will help."""
        if reason := health.stuck():
            return JSONResponse({"error": reason}, 503)
        return JSONResponse({"status": "ok"})

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        """503 with the reasons until a model serves and every enabled camera gives frames.

        Warnings and the state of MQTT are told too, and decide nothing: a bad file or a broker that is away keeps
        nobody from being answered.
        """
        reasons = list(health.why_not_ready())
        document = {
            "ready": not reasons,
            "reasons": reasons,
            "warnings": list(health.warnings()),
            "mqtt": health.mqtt(),
        }
        return JSONResponse(document, 503 if reasons else 200)

    @router.get("/metrics")
    async def prometheus() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
