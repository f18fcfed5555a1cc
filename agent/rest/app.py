"""The REST application: its routes, and the one place where errors become HTTP codes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from agent.errors import (
    AgentError,
    BusyError,
    ImageDamagedError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    ModelError,
    ModelNotFoundError,
    ModelNotReadyError,
    ProfileNotFoundError,
    StartError,
    StoreError,
    TensorError,
    VersionError,
)
from agent.inference.inferring import Inferring
from agent.rest.access import Access
from agent.rest.cameras import Cameras, Overview as CamerasOverview, cameras_router
from agent.rest.collection import Folder, collection_router
from agent.rest.connection import LATE
from agent.rest.docs_page import docs_routes
from agent.rest.events import Events, events_router
from agent.rest.front import Front, Reach
from agent.rest.live import Overview as LiveOverview, live_router
from agent.rest.models import Models as OperatedModels, models_router
from agent.rest.open_inference.routes import Models as InferredModels, open_inference_router
from agent.rest.openapi import described
from agent.rest.origins import Origins
from agent.rest.page.routes import page_router
from agent.rest.predict import DataPlane as Classifying, predict_router
from agent.rest.profile import Profiles, profile_router
from agent.rest.route_scopes import RouteScopes
from agent.rest.session import session_router
from agent.rest.shortcut import Shortcut
from agent.rest.status import Metrics as RenderedMetrics, status_router
from agent.rest.stream import IS_HEAD
from agent.rest.tf_serving.inference import tf_inference_router
from agent.rest.tf_serving.status import Models as ServedModels, tf_serving_router
from agent.rest.upload import UploadReader
from agent.security.access import Guard

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from agent.inference.share import Share
    from agent.rest.shortcut import Handlers
    from agent.rest.status import Health
    from agent.security.access import AccessRules

log = logging.getLogger(__name__)

_CODES: tuple[tuple[type[AgentError], int], ...] = (
    (ImageTooLargeError, 413),
    (ImageFormatError, 415),
    (ImageDamagedError, 422),
    (TensorError, 400),
    (BusyError, 503),
    (ModelError, 503),  # the runtime failed on this image; another version may succeed
)
# The Open Inference Protocol knows 400 for whatever is wrong with a request.
_CODES_OF_V2 = ((ModelNotReadyError, 503), (ModelNotFoundError, 404), (ImageError, 400), *_CODES)
# /api/models: the client named the model and the version, so a failure to load is a conflict with the request.
_CODES_OF_API = (
    (ModelNotFoundError, 404),
    (ProfileNotFoundError, 404),
    (ModelError, 409),
    (VersionError, 409),
    (StoreError, 503),
    *_CODES,
)
# /v1: TensorFlow Serving's codes. A bad image is an invalid argument, and the path always names the model.
_CODES_OF_TF_SERVING = ((ModelNotFoundError, 404), (ImageError, 400), *_CODES)


_ANYWHERE = Reach()


class Requests(Protocol):
    """Counts requests: those in progress, each answer by its route and code, and each missing or wrong token."""

    def answered(self, route: str, code: int) -> None: ...
    def in_flight(self) -> AbstractContextManager[object]: ...
    def auth_failed(self, reason: str) -> None: ...


class Metrics(RenderedMetrics, Protocol):
    @property
    def http(self) -> Requests: ...


class Models(OperatedModels, ServedModels, InferredModels, Protocol):
    """What the routes of /api/models, /v1/models and /v2 need."""


class Overview(LiveOverview, CamerasOverview, Protocol):
    """What the routes of /api/status, /api/live and /api/cameras show."""


class DataPlane(Classifying, Inferring, Protocol):
    """What the routes that classify need."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The size of an upload, and how many one address may send at the same time in any case."""

    max_upload_bytes: int
    per_client: int


def create_app(
    *,
    version: str,
    data_plane: DataPlane,
    models: Models,
    cameras: Cameras,
    profiles: Profiles,
    collection: Folder,
    overview: Overview,
    health: Health,
    metrics: Metrics,
    limits: Limits,
    places: Share,
    access: AccessRules,
    reach: Reach = _ANYWHERE,
    events: Events | None = None,
) -> ASGIApp:
    """The ASGI application; it calls everything on the event loop's thread. Raises StartError.

    `places` divides the queue of the data plane among the clients of all doors. `events` is None if they are off.
    """
    app = FastAPI(
        title="edge-agent",
        version=version,
        description="Classifies uploaded images. The same results are also available over MQTT.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would lead to the address that the Host header names
        servers=[{"url": reach.base_path}] if reach.base_path else None,
    )
    guard = Guard(access, failures=metrics.http, header="the header Authorization: Bearer TOKEN")
    uploads = UploadReader(
        max_bytes=limits.max_upload_bytes,
        max_bytes_together=8 * limits.max_upload_bytes,
        per_client=limits.per_client,
    )
    routers = [
        predict_router(data_plane=data_plane, uploads=uploads, places=places),
        models_router(models),
        cameras_router(cameras, overview=overview),
        profile_router(profiles),
        collection_router(collection),
        live_router(overview),
        events_router(events),
        session_router(guard, base_path=reach.base_path),
        tf_serving_router(models),
        tf_inference_router(models, data_plane=data_plane, uploads=uploads, places=places),
        open_inference_router(
            version=version, data_plane=data_plane, models=models, health=health, uploads=uploads, places=places
        ),
        status_router(health=health, metrics=metrics),
        page_router(base_path=reach.base_path),
    ]
    for router in routers:
        app.include_router(router)
    app.openapi = partial(described, app.openapi)  # type: ignore[method-assign]  # FastAPI's way to extend it
    handlers: Handlers = {
        AgentError: _agent_error,
        HTTPException: partial(_http_error, base_path=reach.base_path),
        ClientDisconnect: _gone,
        Exception: _bug,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.router.routes += docs_routes(title=app.title)
    routes, origins = RouteScopes(routers), Origins(reach.cors)
    if reach.base_path and (path := routes.below(reach.base_path)) is not None:
        raise StartError(f"http.base_path: {reach.base_path} is also in the agent's path {path}. Choose another one.")
    called = Shortcut(app, routes=routes, handlers=handlers)
    guarded = Access(called, routes=routes, guard=guard)
    counted = _Headed(_Counted(origins.shared(_Interruptible(guarded)), metrics.http))
    return Front(counted, reach=reach, origins=origins, routes=routes, answers=metrics.http)


class _Headed:
    """Answers HEAD as it would answer GET, without the body (RFC 9110, 9.3.2); FastAPI's routes know only GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        if scope.get("method") == "HEAD":
            await self._app({**scope, "method": "GET", IS_HEAD: True}, receive, without_body)
        else:
            await self._app(scope, receive, send)


class _Counted:
    """Counts answers by route, not by path: paths that a client invents must not become time series."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.answered(getattr(scope.get("route"), "path", "other"), message["status"])
            await send(message)

        # Otherwise each scrape would count itself as in progress.
        with nullcontext() if scope["path"] == "/metrics" else self._requests.in_flight():
            await self._app(scope, receive, counted)


class _Interruptible:
    """Answers requests that are interrupted when the service stops; uvicorn would log a traceback for each."""

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
                stopping = _error("The agent is stopping. Retry after a few seconds.", 503, {"Retry-After": "5"})
                await stopping(scope, receive, send)


async def _agent_error(request: Request, error: Exception) -> Response:
    code = _code(request, error)
    wait_s = error.retry_after_s if isinstance(error, BusyError) else 5
    return _error(str(error), code, {"Retry-After": str(wait_s)} if code == 503 else None)


def _code(request: Request, error: Exception) -> int:
    path = request.url.path
    if path.startswith("/api/"):
        return _first(_CODES_OF_API, error)
    if path.startswith("/v1/"):
        return _first(_CODES_OF_TF_SERVING, error)
    if path.startswith("/v2/"):
        return _first(_CODES_OF_V2, error)
    if isinstance(error, ModelNotReadyError):
        return 503
    if isinstance(error, ModelNotFoundError):  # 404 if the client named what is missing
        return 503 if request.query_params.keys().isdisjoint({"model", "version"}) else 404
    return _first(_CODES, error)


def _first(codes: tuple[tuple[type[AgentError], int], ...], error: Exception) -> int:
    return next((code for kind, code in codes if isinstance(error, kind)), 500)


async def _http_error(request: Request, error: Exception, *, base_path: str) -> Response:
    assert isinstance(error, HTTPException)
    path, page = f"{base_path}{request.url.path}", f"{base_path}/docs"
    if error.status_code == 404 and error.detail == "Not Found":
        return _error(f"{path} does not exist. See GET {page} for the routes.", 404)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "").replace("GET", "GET, HEAD")
        return _error(f"Method {request.method} is not allowed for {path}. See GET {page}.", 405, {"Allow": allowed})
    return _error(error.detail, error.status_code, error.headers)


async def _gone(request: Request, _: Exception) -> Response:
    """No client receives it: the code is for the metrics. 499 is nginx's for a client that closes its request."""
    return Response(status_code=408 if LATE in request.scope else 499)


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s %s failed.", request.method, request.url.path, exc_info=error)
    return _error("Internal error; see the agent's log.", 500)


def _error(sentence: str, code: int, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, code, headers)
