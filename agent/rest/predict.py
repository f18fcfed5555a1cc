"""Predict: uploads in, Results out: POST /predict, /predict_async and /batch_predict."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import JSONResponse

from agent.errors import BusyError, ImageError, ModelError
from agent.inference.options import Options
from agent.rest.upload import UploadReader, too_large

if TYPE_CHECKING:
    from agent.classification import Result

_MAX_FILES = 64
_PARAMETERS = {
    "model": ("string", "Which model; the first by name where it is left out."),
    "version": ("string", "stable, canary or a number; where it is left out, stable and now and then the canary."),
    "max_results": ("integer", "How many categories at most; 5 where it is left out."),
    "score_threshold": ("number", "The least score of a category, 0 to 1; 0 where it is left out."),
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
    async def classify(self, image: bytes, options: Options, *, arrived_ns: int) -> Result: ...


def predict_router(*, data_plane: DataPlane, uploads: UploadReader) -> APIRouter:
    router = APIRouter(tags=["predict"])

    @router.post("/predict", openapi_extra=_documented(_ONE))
    @router.post("/predict_async", openapi_extra=_documented(_ONE))
    async def predict(request: Request) -> JSONResponse:
        """Classifies one JPEG, PNG, WebP or BMP: the form field `file`, or the image as the body."""
        arrived_ns, options = time.time_ns(), _options(request)
        content = await uploads.read_image(request)
        return JSONResponse(with_best(await data_plane.classify(content, options, arrived_ns=arrived_ns)))

    @router.post("/batch_predict", openapi_extra=_documented(_MANY))
    async def batch_predict(request: Request) -> JSONResponse:
        """Classifies the form's `files`, in order; a bad one gives `{"error": ...}` in its place."""
        arrived_ns, options = time.time_ns(), _options(request)
        files = await uploads.read_images(request)
        if not 1 <= len(files) <= _MAX_FILES:
            raise HTTPException(400, f"The form has {len(files)} fields `files`; send 1 to {_MAX_FILES}.")
        places = asyncio.Semaphore(data_plane.workers)  # a batch must not fill the line for everybody else

        async def one(content: bytes) -> dict[str, Any]:
            async with places:
                if len(content) > uploads.max_bytes:
                    return {"error": too_large(uploads.max_bytes)}
                try:
                    return with_best(await data_plane.classify(content, options, arrived_ns=arrived_ns))
                except (ImageError, ModelError, BusyError) as error:
                    return {"error": str(error)}

        return JSONResponse(await asyncio.gather(*(one(file) for file in files)))

    return router


def _options(request: Request) -> Options:
    """The query parameters, read by hand: FastAPI's way takes a tenth of the time of a small model."""
    query = request.query_params
    if not query:
        return Options()
    unknown = sorted(query.keys() - _PARAMETERS.keys())
    if unknown:
        raise HTTPException(400, f"There is no parameter {unknown[0]}; there are {', '.join(_PARAMETERS)}.")
    try:
        max_results, score_threshold = int(query.get("max_results", 5)), float(query.get("score_threshold", 0))
    except ValueError:
        max_results, score_threshold = 0, 0.0
    if not (1 <= max_results <= 10_000 and 0 <= score_threshold <= 1):
        raise HTTPException(400, "max_results must be a whole number from 1, score_threshold a number from 0 to 1.")
    version = query.get("version")
    if version is not None and not re.fullmatch("stable|canary|[0-9]{1,18}", version):
        raise HTTPException(400, "version must be stable, canary or a number. GET /api/models lists the versions.")
    return Options(query.get("model"), max_results, score_threshold, version=version)


def _documented(content: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": {"type": kind}, "description": description}
        for name, (kind, description) in _PARAMETERS.items()
    ]
    return {"parameters": parameters, "requestBody": {"content": content, "required": True}}


def with_best(result: Result) -> dict[str, Any]:
    """The Result, and its best category on the top level under the names that simple clients look for."""
    document = result.to_json()
    best = next(iter(document["categories"]), None)
    return {
        **document,
        "class_id": best["index"] if best else None,
        "label": best["label"] if best else None,
        "confidence": best["score"] if best else None,
    }
