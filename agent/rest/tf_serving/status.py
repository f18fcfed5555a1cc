"""The model status and metadata routes of TensorFlow Serving's REST API (tensorflow.org/tfx/serving/api_rest)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002  (FastAPI reads the annotation)

from agent.rest.models import find_status
from agent.rest.openapi import answers
from agent.rest.route_scopes import needs
from agent.tf_serving.signatures import signature_names
from agent.tf_serving.versions import VersionState, version_states

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.models.serving import ServedModel
    from agent.runtimes.serving_signature import ServedTensor
    from agent.status import ModelStatus

_DTYPES = {
    "float32": "DT_FLOAT",
    "uint8": "DT_UINT8",
    "int8": "DT_INT8",
    "int16": "DT_INT16",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "bool": "DT_BOOL",
    "string": "DT_STRING",
}


class Models(Protocol):
    @property
    def served(self) -> Mapping[str, ServedModel]: ...
    @property
    def canaries(self) -> Mapping[str, ServedModel]: ...
    @property
    def statuses(self) -> Sequence[ModelStatus]: ...


def tf_serving_router(models: Models) -> APIRouter:
    router = APIRouter(prefix="/v1/models", tags=["models"])

    @router.get("", openapi_extra=needs("read", responses=answers("Models")))
    async def list_models() -> dict[str, Any]:
        """Lists every model, its serving version and its last rejection (not in TensorFlow Serving)."""
        return {"models": [status.to_json() for status in models.statuses]}

    @router.get("/{name}", openapi_extra=needs("read", responses=answers("VersionStatuses", 404)))
    async def model_status(name: str, request: Request) -> dict[str, Any]:
        if ":" in name:
            raise malformed(request)
        return {"model_version_status": _version_statuses(find_status(models.statuses, name))}

    @router.get("/{name}/versions/{version}", openapi_extra=needs("read", responses=answers("VersionStatuses", 404)))
    async def version_status(name: str, version: str, request: Request) -> dict[str, Any]:  # noqa: ARG001  (read from the path)
        return {"model_version_status": _numbered_statuses(models, name, checked_version(request))}

    @router.get("/{name}/labels/{label}", openapi_extra=needs("read", responses=answers("VersionStatuses", 404)))
    async def label_status(name: str, label: str) -> dict[str, Any]:
        return {
            "model_version_status": [_to_json(VersionState(labeled(models, name, label).identity.version, "AVAILABLE"))]
        }

    @router.get("/{name}/metadata", openapi_extra=needs("read", responses=answers("Metadata", 404)))
    async def metadata(name: str) -> dict[str, Any]:
        find_status(models.statuses, name)
        if (model := models.served.get(name)) is None:
            raise HTTPException(404, f"Model {name} currently has no stable version.")
        return _metadata(model)

    @router.get("/{name}/versions/{version}/metadata", openapi_extra=needs("read", responses=answers("Metadata", 404)))
    async def version_metadata(name: str, version: str, request: Request) -> dict[str, Any]:  # noqa: ARG001  (read from the path)
        return _metadata(_numbered(models, name, checked_version(request)))

    @router.get("/{name}/labels/{label}/metadata", openapi_extra=needs("read", responses=answers("Metadata", 404)))
    async def label_metadata(name: str, label: str) -> dict[str, Any]:
        return _metadata(labeled(models, name, label))

    return router


def malformed(request: Request) -> HTTPException:
    """TensorFlow Serving's answer to a path or a method that it does not know."""
    return HTTPException(
        400, f"Malformed request: {request.method} {request.url.path}. TensorFlow Serving has no such route."
    )


def checked_version(request: Request) -> int:
    """The version in the path. Raises HTTPException 400 if it is not a number of 64 bits."""
    version = request.path_params["version"]
    if not version.isascii() or not version.isdecimal():
        raise malformed(request)
    if len(version) > 19 or int(version) >= 1 << 63:
        raise HTTPException(400, f"The version {version:.40} is too large for a number of 64 bits.")
    return int(version)


def labeled(models: Models, name: str, label: str) -> ServedModel:
    """Raises ModelNotFoundError, and HTTPException 400 if no version has the label, as TensorFlow Serving does."""
    find_status(models.statuses, name)
    labels = {"stable": models.served, "canary": models.canaries}
    if label not in labels:
        raise HTTPException(400, f"Model {name} has no label {label}. Use stable or canary.")
    if (model := labels[label].get(name)) is None:
        raise HTTPException(400, f"Model {name} currently has no {label} version.")
    return model


def _numbered(models: Models, name: str, version: int) -> ServedModel:
    find_status(models.statuses, name)
    for model in (models.served.get(name), models.canaries.get(name)):
        if model is not None and model.identity.version == version:
            return model
    raise HTTPException(404, f"Model {name} is not serving version {version}.")


def _numbered_statuses(models: Models, name: str, version: int) -> list[dict[str, Any]]:
    statuses = _version_statuses(find_status(models.statuses, name))
    found = [status for status in statuses if status["version"] == str(version)]
    if not found:
        raise HTTPException(404, f"Model {name} has no version {version}. GET /v1/models/{name} lists its versions.")
    return found


def _version_statuses(status: ModelStatus) -> list[dict[str, Any]]:
    return [_to_json(version) for version in version_states(status)]


def _to_json(version: VersionState) -> dict[str, Any]:
    code = "OK" if version.failure is None else "FAILED_PRECONDITION"
    return {
        "version": str(version.version),
        "state": version.state,
        "status": {"error_code": code, "error_message": version.failure or ""},
    }


def _metadata(model: ServedModel) -> dict[str, Any]:
    tensors = model.signature
    signature = {
        "inputs": {tensors.input.name: _tensor_info(tensors.input)},
        "outputs": {output.name: _tensor_info(output) for output in tensors.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    signatures = dict.fromkeys(signature_names(tensors), signature)
    return {
        "model_spec": {
            "name": model.identity.name,
            "signature_name": "",
            "version": str(model.identity.version),
        },
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _tensor_info(tensor: ServedTensor) -> dict[str, Any]:
    return {
        "name": tensor.tensor,
        "dtype": _DTYPES[tensor.dtype],
        "tensor_shape": {
            "dim": [{"size": str(side), "name": ""} for side in (-1, *tensor.shape)],
            "unknown_rank": False,
        },
    }
