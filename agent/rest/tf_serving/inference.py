"""The inference routes of TensorFlow Serving's REST API: :predict, :classify and :regress."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)
from starlette.responses import Response

from agent.inference.inferring import infer_all
from agent.inference.options import Options
from agent.inference.server_timing import server_timing
from agent.rest.json_arrays import parsed
from agent.rest.openapi import errors, path_parameters
from agent.rest.route_scopes import needs
from agent.rest.tf_serving.answers import classifications, predictions
from agent.rest.tf_serving.requests import read_classify, read_predict
from agent.rest.tf_serving.status import checked_version, labeled, malformed
from agent.rest.upload import client_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.inference.data_plane import Sent
    from agent.inference.inferred import Inferred
    from agent.inference.inferring import Inferring
    from agent.inference.share import Share
    from agent.models.serving import ServedModel
    from agent.rest.tf_serving.status import Models
    from agent.rest.upload import UploadReader

_WHICH = ("/{name}", "/{name}/versions/{version}", "/{name}/labels/{label}")


def tf_inference_router(models: Models, *, data_plane: Inferring, uploads: UploadReader, places: Share) -> APIRouter:
    """Include it after the router of the status: it also answers what no route of TensorFlow Serving does."""
    router = APIRouter(prefix="/v1", tags=["predict"])

    async def predict(request: Request) -> Response:
        """Runs tensors or encoded images, in rows (`instances`) or columns (`inputs`), as TensorFlow Serving does."""
        arrived_ns, body = time.monotonic_ns(), await uploads.read_message(request)
        options = _options(request, models)
        with places.held(client_address(request.scope), 1):
            served = data_plane.choose(options)
            asked = await parsed(body, len(body), read_predict, body, served.signature)
            done = await infer(request, served, asked.instances, options, arrived_ns)
        return _answer(predictions(done, in_rows=asked.in_rows, raw=asked.raw), done)

    async def classify(request: Request) -> Response:
        """Classifies the encoded image in each of `examples`; answers pairs of label and score, the best first."""
        arrived_ns, body = time.monotonic_ns(), await uploads.read_message(request)
        options = _options(request, models)
        with places.held(client_address(request.scope), 1):
            served = data_plane.choose(options)
            images = await parsed(body, len(body), read_classify, body, served.signature)
            done = await infer(request, served, images, options, arrived_ns)
        return _answer(classifications(done), done)

    async def regress(request: Request) -> Response:
        """Always refused: the models are image classifiers."""
        served = data_plane.choose(_options(request, models))
        raise HTTPException(
            400,
            f"Model {served.identity.name} is an image classifier and has no regression signature. "
            "Use :predict or :classify.",
        )

    async def infer(
        request: Request, served: ServedModel, instances: list[Sent], options: Options, arrived_ns: int
    ) -> list[Inferred]:
        more_places = partial(places.held, client_address(request.scope))
        return await infer_all(data_plane, served, instances, options, arrived_ns=arrived_ns, more_places=more_places)

    for which in _WHICH:
        for verb, handler in (("predict", predict), ("classify", classify), ("regress", regress)):
            router.add_api_route(
                f"/models{which}:{verb}", handler, methods=["POST"], openapi_extra=_documented(which, verb)
            )

    @router.post("/{path:path}", openapi_extra=needs("infer"), include_in_schema=False)  # noqa: FAST003  (Shortcut calls it)
    async def no_such_inference(request: Request) -> Response:
        raise malformed(request)

    @router.get("/{path:path}", openapi_extra=needs("read"), include_in_schema=False)
    async def no_such_status(request: Request, path: str) -> Response:  # noqa: ARG001  (FastAPI wants it)
        raise malformed(request)

    return router


def _options(request: Request, models: Models) -> Options:
    given = request.path_params
    if "version" in given:
        return Options(given["name"], version=str(checked_version(request)))
    if "label" in given:
        labeled(models, given["name"], given["label"])  # an unknown label has another code than an unknown version
    return Options(given["name"], version=given.get("label"))


def _answer(text: str, done: Sequence[Inferred]) -> Response:
    headers = {"Server-Timing": server_timing(each.result.classification.timing for each in done)}
    return Response(text, headers=headers, media_type="application/json")


def _documented(which: str, verb: str) -> dict[str, Any]:
    names = [part.strip("{}") for part in which.split("/") if part.startswith("{")]
    needed = {"predict": {}, "classify": {"required": ["examples"]}, "regress": {}}[verb]
    return needs(
        "infer",
        parameters=path_parameters(*names),
        requestBody={"content": {"application/json": {"schema": {"type": "object", **needed}}}, "required": True},
        responses=errors(404, 413, 415),
    )
