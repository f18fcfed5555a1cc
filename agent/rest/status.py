"""Status: is the process alive, is it ready for work, what does Prometheus want to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def status_router(
    *,
    stuck: Callable[[], str | None],
    why_not_ready: Callable[[], Sequence[str]],
    warnings: Callable[[], Sequence[str]],
    mqtt: Callable[[], dict[str, Any] | None],
    metrics: Callable[[], bytes],
) -> APIRouter:
    router = APIRouter(tags=["status"])

    @router.get("/healthz")
    async def healthz() -> JSONResponse:
        """200 while the process works, 503 with the reason when only a new start will help."""
        if reason := stuck():
            return JSONResponse({"error": reason}, 503)
        return JSONResponse({"status": "ok"})

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        """503 with the reasons until a model serves and every enabled camera gives frames.

        Warnings and the state of MQTT are told too, and decide nothing: a bad file or a broker that is away keeps
        nobody from being answered.
        """
        reasons = list(why_not_ready())
        document = {"ready": not reasons, "reasons": reasons, "warnings": list(warnings()), "mqtt": mqtt()}
        return JSONResponse(document, 503 if reasons else 200)

    @router.get("/metrics")
    async def prometheus() -> Response:
        return Response(metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
