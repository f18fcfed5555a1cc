"""Predict: uploads in, Results out: POST /predict, /predict_async and /batch_predict."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import JSONResponse

from agent.engine import View
from agent.errors import BusyError, ImageError
from agent.rest.upload import BodiesInFlight, now_ns, read_form, read_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.classification import Classification, Result, ResultLog


async def _view(
    model: Annotated[str | None, Query(description="Which model; the first by name where it is left out.")] = None,
    max_results: Annotated[int, Query(ge=1, le=10_000, description="How many categories at most.")] = 5,
    score_threshold: Annotated[float, Query(ge=0, le=1, description="The least score of a category.")] = 0.0,
) -> View:
    return View(model, max_results, score_threshold)


Wanted = Annotated[View, Depends(_view)]

_MAX_FILES = 64
_MAX_BODIES = 64
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


class Engine(Protocol):
    @property
    def workers(self) -> int: ...
    async def classify_upload(self, content: bytes, view: View, *, source: str = ...) -> Classification: ...


def predict_router(
    *,
    engine: Engine,
    results: ResultLog,
    publish: Callable[[Result], None],
    max_upload_bytes: int,
    upload_timeout_s: float,
) -> APIRouter:
    """`publish` gets every Result on the event loop's thread."""
    router = APIRouter(tags=["predict"])
    bodies = BodiesInFlight(at_most=_MAX_BODIES)

    async def classify(content: bytes, view: View, arrived_ns: int) -> dict[str, Any]:
        classification = await engine.classify_upload(content, view)
        result = results.record(classification, source="upload", captured_ns=arrived_ns)
        publish(result)
        return with_best(result)

    @router.post("/predict", openapi_extra={"requestBody": {"content": _ONE, "required": True}})
    @router.post("/predict_async", openapi_extra={"requestBody": {"content": _ONE, "required": True}})
    async def predict(request: Request, view: Wanted) -> JSONResponse:
        """Classifies one JPEG, PNG, WebP or BMP: the form field `file`, or the image as the body."""
        arrived_ns = now_ns()
        with bodies.place():
            content = await read_image(request, max_bytes=max_upload_bytes, timeout_s=upload_timeout_s)
        return JSONResponse(await classify(content, view, arrived_ns))

    @router.post("/batch_predict", openapi_extra={"requestBody": {"content": _MANY, "required": True}})
    async def batch_predict(request: Request, view: Wanted) -> JSONResponse:
        """Classifies the form's `files`, in order; a bad one gives `{"error": ...}` in its place."""
        arrived_ns = now_ns()
        with bodies.place():
            files = await read_form(
                request, field_name="files", max_bytes=8 * max_upload_bytes, timeout_s=upload_timeout_s
            )
        if not 1 <= len(files) <= _MAX_FILES:
            raise HTTPException(400, f"The form has {len(files)} fields `files`; send 1 to {_MAX_FILES}.")
        places = asyncio.Semaphore(engine.workers)  # a batch must not fill the line for everybody else

        async def one(content: bytes) -> dict[str, Any]:
            async with places:
                try:
                    return await classify(content, view, arrived_ns)
                except (ImageError, BusyError) as error:
                    return {"error": str(error)}

        return JSONResponse(await asyncio.gather(*(one(file.content) for file in files)))

    return router


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
