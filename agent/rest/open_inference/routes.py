"""The routes of the Open Inference Protocol (v2) with Triton's extensions, for clients of Triton and KServe."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import JSONResponse, Response

from agent.errors import TensorError
from agent.inference.data_plane import MAX_INSTANCES
from agent.inference.inferring import infer_all
from agent.inference.options import Options
from agent.inference.server_timing import server_timing
from agent.open_inference import description
from agent.open_inference.inputs import instances
from agent.open_inference.outputs import output, times, wanted_outputs
from agent.rest.json_arrays import parsed
from agent.rest.open_inference.body import JSON_LENGTH, answer, raw_request, read_request
from agent.rest.openapi import READINESS, errors, path_parameters
from agent.rest.route_scopes import needs
from agent.rest.status import why_stuck
from agent.rest.upload import client_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.inference.inferring import Inferring
    from agent.inference.share import Share
    from agent.models.serving import ServedModel
    from agent.rest.open_inference.body import InferRequest
    from agent.rest.status import Liveness
    from agent.rest.upload import UploadReader
    from agent.runtimes.serving_signature import ServedTensor
    from agent.status import ModelStatus

_MAX_INDEX_BYTES = 4096
_READY = 'Send no body, or {"ready": true} for only the versions that serve.'
_NO_LOADING = (
    "The agent loads and unloads models automatically. Copy the file of a model to the drop folder, models.folder in "
    "the configuration, or remove it there. POST /api/models/{name}/pin selects a version."
)


class Models(Protocol):
    """`get` raises ModelNotFoundError."""

    @property
    def served(self) -> Mapping[str, ServedModel]: ...
    @property
    def canaries(self) -> Mapping[str, ServedModel]: ...
    @property
    def statuses(self) -> Sequence[ModelStatus]: ...
    def get(self, name: str | None, version: str | None = None) -> ServedModel: ...


def open_inference_router(
    *, version: str, data_plane: Inferring, models: Models, health: Liveness, uploads: UploadReader, places: Share
) -> APIRouter:
    """`places` divides the queue of the data plane among the clients."""
    router = APIRouter(prefix="/v2", tags=["open inference"])
    _add_server(router, version=version, models=models, health=health)
    _add_repository(router, models=models, uploads=uploads)
    _add_models(router, models)

    @router.post("/models/{name}/infer", openapi_extra=_documented("name"))  # noqa: FAST003  (Shortcut calls it)
    @router.post("/models/{name}/versions/{version}/infer", openapi_extra=_documented("name", "version"))
    async def infer(request: Request) -> Response:
        """Runs a tensor for one or more images, or encoded images as BYTES."""
        arrived_ns, which = time.monotonic_ns(), request.path_params
        options = Options(which["name"], version=which.get("version"))
        body, address = await uploads.read_message(request), client_address(request.scope)
        with places.held(address, 1):
            served = data_plane.choose(options)
            asked = await _read(request, body, served.signature.input)
            wanted = wanted_outputs(asked.wanted, served.signature, all_binary=asked.all_binary)
            sent = instances(asked.header, asked.values, served.signature.input)
            more_places = partial(places.held, address)
            inferred = await infer_all(
                data_plane, served, sent, options, arrived_ns=arrived_ns, more_places=more_places
            )
        document: dict[str, Any] = {} if asked.id is None else {"id": asked.id}
        document["model_name"], document["model_version"] = served.identity.name, str(served.identity.version)
        document["parameters"] = times(inferred)
        response = answer(document, [(each, output(each, inferred, served.labels)) for each in wanted])
        response.headers["Server-Timing"] = server_timing(each.result.classification.timing for each in inferred)
        return response

    return router


def _add_server(router: APIRouter, *, version: str, models: Models, health: Liveness) -> None:
    @router.get("", openapi_extra=needs("read"))
    @router.get("/", openapi_extra=needs("read"))
    async def server() -> dict[str, Any]:
        """The name and version of the agent, and the extensions of the protocol that it supports."""
        return description.server(version=version)

    @router.get("/health/live", openapi_extra=needs(None))
    async def live(request: Request) -> JSONResponse:
        """Like /healthz."""
        reason = why_stuck(health, request)
        return JSONResponse({"error": reason} if reason else {"live": True}, 503 if reason else 200)

    @router.get("/health/ready", openapi_extra=needs(None, responses=READINESS))
    async def ready() -> JSONResponse:
        """Returns 503 until a model serves; cameras do not matter."""
        return JSONResponse({"ready": bool(models.served)}, 200 if models.served else 503)


def _add_repository(router: APIRouter, *, models: Models, uploads: UploadReader) -> None:
    @router.post("/repository/index", openapi_extra=needs("read", responses=errors(413, 415)))
    async def index(request: Request) -> list[dict[str, str]]:
        """Lists every version of every model; with `{"ready": true}`, only those that serve."""
        return description.index(models.statuses, only_ready=_only_ready(await uploads.read_message(request)))

    @router.post("/repository/models/{name}/load", openapi_extra=needs("admin"))
    @router.post("/repository/models/{name}/unload", openapi_extra=needs("admin"))
    async def change(name: str) -> None:
        """Always refused: the drop folder decides which models are loaded."""
        raise HTTPException(400, _NO_LOADING.replace("{name}", name))


def _add_models(router: APIRouter, models: Models) -> None:
    @router.get("/models/{name}", openapi_extra=needs("read", responses=errors(404)))
    @router.get("/models/{name}/versions/{version}", openapi_extra=needs("read", responses=errors(404)))
    async def metadata(name: str, version: str | None = None) -> dict[str, Any]:
        """The tensors of the model; `version` is a number, stable or canary."""
        served = models.get(name, version)
        return description.model(name, description.versions(models, name), served.signature)

    @router.get("/models/{name}/ready", openapi_extra=needs("read", responses=errors(404)))
    @router.get("/models/{name}/versions/{version}/ready", openapi_extra=needs("read", responses=errors(404)))
    async def ready(name: str, version: str | None = None) -> dict[str, Any]:
        models.get(name, version)
        return {"name": name, "ready": True}

    @router.get("/models/{name}/config", openapi_extra=needs("read", responses=errors(404)))
    @router.get("/models/{name}/versions/{version}/config", openapi_extra=needs("read", responses=errors(404)))
    async def configuration(name: str, version: str | None = None) -> dict[str, Any]:
        """What Triton's clients need of the model's configuration."""
        return description.configuration(name, models.get(name, version).signature, max_instances=MAX_INSTANCES)


def _only_ready(body: bytes | bytearray) -> bool:
    if len(body) > _MAX_INDEX_BYTES:  # 8 MB of JSON can take 200 MB as Python objects
        raise HTTPException(413, f"The body has more than {_MAX_INDEX_BYTES} bytes. {_READY}")
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        document = None
    only_ready = document.get("ready", False) if isinstance(document, dict) else None
    if not isinstance(only_ready, bool):
        raise HTTPException(400, _READY)
    return only_ready


async def _read(request: Request, body: bytes | bytearray, takes: ServedTensor) -> InferRequest:
    stated = request.headers.get(JSON_LENGTH, str(len(body)))
    if not (stated.isascii() and stated.isdecimal() and len(stated) <= 15):
        raise TensorError(f"{JSON_LENGTH} is not a number of bytes: {stated[:40]}.")
    length = int(stated)
    if length == 0 and JSON_LENGTH in request.headers:
        return raw_request(body, takes)
    return await parsed(body, length, read_request, body, length, takes)


def _documented(*names: str) -> dict[str, Any]:
    tensors = {"type": "array", "items": {"type": "object"}}
    request = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "inputs": tensors, "outputs": tensors},
        "required": ["inputs"],
    }
    binary = {"type": "string", "format": "binary"}
    content = {"application/json": {"schema": request}, "application/octet-stream": {"schema": binary}}
    body = {"content": content, "required": True}
    return needs("infer", parameters=path_parameters(*names), requestBody=body, responses=errors(404, 413, 415, 422))
