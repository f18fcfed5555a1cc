"""Predict: classifies uploads: POST /predict, /predict_async and /batch_predict."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import Response

from agent.classification import Result
from agent.errors import BusyError, ImageError, ModelError
from agent.inference.options import Options
from agent.inference.server_timing import server_timing
from agent.rest.openapi import answers
from agent.rest.route_scopes import needs
from agent.rest.upload import UploadReader, client_address, too_large

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.image import Encoded
    from agent.inference.share import Share

_MAX_FILES = 64
_VERSION = "stable|canary|[0-9]{1,18}"
_TO_JSON = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":")
).encode  # json.dumps() makes an encoder at each call
_PARAMETERS = {
    "model": ({"type": "string"}, "Model name; default: the first by name."),
    "version": (
        {"type": "string", "pattern": f"^({_VERSION})$"},
        "stable, canary or a version number; default: the stable version, or the canary for its share of requests.",
    ),
    "max_results": (
        {"type": "integer", "minimum": 1, "maximum": 10_000},
        "Maximum number of categories; default: 5.",
    ),
    "score_threshold": (
        {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "enum": ["auto"]}]},
        "Minimum score of a category, 0 to 1; default: 0. auto: the model's own threshold, or 0.5 if it has none.",
    ),
}
_IMAGE = {"type": "string", "format": "binary"}
_ONE = {
    "multipart/form-data": {"schema": {"type": "object", "properties": {"file": _IMAGE}, "required": ["file"]}},
    "application/octet-stream": {"schema": _IMAGE},
    "image/*": {"schema": _IMAGE},
}
_MANY = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"files": {"type": "array", "items": _IMAGE}},
            "required": ["files"],
        }
    }
}


class DataPlane(Protocol):
    @property
    def workers(self) -> int: ...
    async def classify(self, image: Encoded, options: Options, *, arrived_ns: int) -> Result: ...


def predict_router(*, data_plane: DataPlane, uploads: UploadReader, places: Share) -> APIRouter:
    """`places` divides the queue of the data plane among the clients."""
    router = APIRouter(tags=["predict"])

    @router.post("/predict", openapi_extra=_documented(_ONE, answer="Result"))
    @router.post("/predict_async", openapi_extra=_documented(_ONE, answer="Result"))
    async def predict(request: Request) -> Response:
        """Classifies one JPEG, PNG, WebP or BMP image, sent as the form field `file` or as the body."""
        arrived_ns, options = time.monotonic_ns(), _options(request)
        content = await uploads.read_image(request)
        address = client_address(request.scope)
        places.take(address, 1)
        try:
            result = await data_plane.classify(content, options, arrived_ns=arrived_ns)
        finally:
            places.give_back(address, 1)
        return _answer(with_best(result), [result])

    @router.post("/batch_predict", openapi_extra=_documented(_MANY, answer="Results"))
    async def batch_predict(request: Request) -> Response:
        """Classifies the images in the form field `files`, in order; a failed one gives `{"error": ...}`."""
        arrived_ns, options = time.monotonic_ns(), _options(request)
        files = await uploads.read_images(request)
        if not 1 <= len(files) <= _MAX_FILES:
            raise HTTPException(400, f"The form has {len(files)} fields named `files`; send 1 to {_MAX_FILES}.")
        address, parallel = client_address(request.scope), min(len(files), data_plane.workers)
        turns = asyncio.Semaphore(parallel)  # a batch must not fill the queue for other clients

        async def answer(content: Encoded) -> Result | dict[str, str]:
            async with turns:
                if len(content) > uploads.max_bytes:
                    return {"error": too_large(uploads.max_bytes)}
                try:
                    return await data_plane.classify(content, options, arrived_ns=arrived_ns)
                except (ImageError, ModelError, BusyError) as error:
                    return {"error": str(error)}

        places.take(address, parallel)
        try:
            answers = await asyncio.gather(*(answer(file) for file in files))
        finally:
            places.give_back(address, parallel)
        results = [each for each in answers if isinstance(each, Result)]
        return _answer([with_best(each) if isinstance(each, Result) else each for each in answers], results)

    return router


def _answer(document: object, results: Iterable[Result]) -> Response:
    headers = {"Server-Timing": server_timing(result.classification.timing for result in results)}
    return Response(_TO_JSON(document), headers=headers, media_type="application/json")


def _options(request: Request) -> Options:
    """The query parameters, parsed here: FastAPI's parsing takes a tenth of the time of a small model."""
    if not request.scope["query_string"]:
        return Options()
    query = request.query_params
    unknown = sorted(query.keys() - _PARAMETERS.keys())
    if unknown:
        raise HTTPException(400, f"Unknown parameter {unknown[0]}. Supported: {', '.join(_PARAMETERS)}.")
    threshold = query.get("score_threshold", "0")
    try:
        max_results = int(query.get("max_results", 5))
        score_threshold = None if threshold == "auto" else float(threshold)
    except ValueError:
        max_results, score_threshold = 0, None
    if not (1 <= max_results <= 10_000 and 0 <= (score_threshold or 0) <= 1):
        raise HTTPException(400, "max_results must be an integer from 1 to 10000, score_threshold from 0 to 1 or auto.")
    version = query.get("version")
    if version is not None and not re.fullmatch(_VERSION, version):
        raise HTTPException(400, "version must be stable, canary or a number. GET /api/models lists the versions.")
    return Options(query.get("model"), max_results, score_threshold, version=version)


def _documented(content: dict[str, Any], *, answer: str) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": description}
        for name, (schema, description) in _PARAMETERS.items()
    ]
    body = {"content": content, "required": True}
    return needs("infer", parameters=parameters, requestBody=body, responses=answers(answer, 404, 413, 415, 422))


def with_best(result: Result) -> dict[str, Any]:
    """The Result, with its best category also on the top level under the names that simple clients expect."""
    document = result.to_json()
    best = next(iter(document["categories"]), None)
    return {
        **document,
        "class_id": best["index"] if best else None,
        "label": best["label"] if best else None,
        "confidence": best["score"] if best else None,
    }
