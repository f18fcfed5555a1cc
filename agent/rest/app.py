"""The REST application: its routes, and the one place where errors become HTTP codes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from agent.errors import (
    AgentError,
    BusyError,
    ImageDamagedError,
    ImageFormatError,
    ImageTooLargeError,
    ModelError,
    ModelNotFoundError,
    ModelNotReadyError,
    StoreError,
    VersionError,
)
from agent.rest.models import Models as OperatedModels, models_router
from agent.rest.predict import predict_router
from agent.rest.status import status_router
from agent.rest.tf_serving import Models as ServedModels, tf_serving_router
from agent.rest.upload import UploadReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from agent.classification import Result, ResultLog
    from agent.rest.predict import Engine

log = logging.getLogger(__name__)

_CODES: tuple[tuple[type[AgentError], int], ...] = (
    (ImageTooLargeError, 413),
    (ImageFormatError, 415),
    (ImageDamagedError, 422),
    (BusyError, 503),
    (ModelError, 503),  # the runtime failed on this image; another version may not
)
# Whoever operates a model has named it, and the version that does not load.
_CODES_OF_API = ((ModelNotFoundError, 404), (ModelError, 409), (VersionError, 409), (StoreError, 503), *_CODES)


class Models(OperatedModels, ServedModels, Protocol):
    """What both kinds of routes need."""


def create_app(
    *,
    version: str,
    engine: Engine,
    models: Models,
    results: ResultLog,
    publish: Callable[[Result], None],
    stuck: Callable[[], str | None],
    why_not_ready: Callable[[], Sequence[str]],
    warnings: Callable[[], Sequence[str]],
    mqtt: Callable[[], dict[str, Any] | None],
    metrics: Callable[[], bytes],
    on_request: Callable[[str, int], None],
    in_flight: Callable[[], AbstractContextManager[object]],
    max_upload_bytes: int,
    upload_timeout_s: float = 30.0,
) -> ASGIApp:
    """All callbacks come on the loop's thread.

    `stuck` says what only a new start will mend, None where nothing is; `mqtt` gives the state of that connection,
    None where it is off; `on_request` gets the route and the code of every answer; `in_flight` is entered for each
    request and left when it is over.
    """
    app = FastAPI(
        title="edge-agent",
        version=version,
        description="Classifies uploaded images; see also MQTT.",
        redoc_url=None,
    )
    app.include_router(
        predict_router(
            engine=engine,
            results=results,
            publish=publish,
            uploads=UploadReader(
                max_bytes=max_upload_bytes, max_bytes_together=8 * max_upload_bytes, timeout_s=upload_timeout_s
            ),
        )
    )
    app.include_router(models_router(models, timeout_s=upload_timeout_s))
    app.include_router(tf_serving_router(models))
    app.include_router(
        status_router(stuck=stuck, why_not_ready=why_not_ready, warnings=warnings, mqtt=mqtt, metrics=metrics)
    )
    app.add_exception_handler(AgentError, _agent_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(500, _bug)
    return _Counted(_Interruptible(app), on_request, in_flight)


class _Counted:
    """Counts answers by route, not by path: a stranger's paths must not become series."""

    def __init__(
        self,
        app: ASGIApp,
        on_request: Callable[[str, int], None],
        in_flight: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._app = app
        self._on_request = on_request
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._on_request(getattr(scope.get("route"), "path", "other"), message["status"])
            await send(message)

        # A scrape would always find itself.
        with nullcontext() if scope["path"] == "/metrics" else self._in_flight():
            await self._app(scope, receive, counted)


class _Interruptible:
    """Answers a request that the end of the service cuts off; uvicorn would log a traceback for each."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:  # only uvicorn cancels, and only when it stops
            if not started:
                stopping = _error("The agent is stopping. Send it again.", 503, {"Retry-After": "5"})
                await stopping(scope, receive, send)


async def _agent_error(request: Request, error: Exception) -> Response:
    code = _code(request, error)
    wait_s = error.retry_after_s if isinstance(error, BusyError) else 5
    return _error(str(error), code, {"Retry-After": str(wait_s)} if code == 503 else None)


def _code(request: Request, error: Exception) -> int:
    by_api = request.url.path.startswith("/api/")
    if isinstance(error, ModelNotReadyError) and not by_api:
        return 503
    if isinstance(error, ModelNotFoundError) and not by_api:  # what was named is wrong, or there is nothing to name
        return 503 if request.query_params.keys().isdisjoint({"model", "version"}) else 404
    return next((code for kind, code in (_CODES_OF_API if by_api else _CODES) if isinstance(error, kind)), 500)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and error.detail == "Not Found":
        return _error(f"There is no {request.url.path} here. GET /docs lists what there is.", 404)
    if error.status_code == 405:
        return _error(
            f"{request.method} does not fit {request.url.path}. GET /docs tells what does.",
            405,
            error.headers,
        )
    return _error(error.detail, error.status_code, error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; nginx's code for a client that hung up


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s %s failed.", request.method, request.url.path, exc_info=error)
    return _error("The agent has a fault; its log has the details.", 500)


def _error(sentence: str, code: int, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, code, headers)
