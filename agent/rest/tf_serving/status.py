"""The model status and metadata routes of TensorFlow Serving's REST API (tensorflow.org/tfx/serving/api_rest)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from agent.rest.models import find_status
from agent.rest.openapi import answers
from agent.rest.route_scopes import needs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.classification import ModelIdentity
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
    async def model_status(name: str) -> dict[str, Any]:
        return {"model_version_status": _version_statuses(find_status(models.statuses, name))}

    @router.get("/{name}/versions/{version}", openapi_extra=needs("read", responses=answers("VersionStatuses", 404)))
    async def version_status(name: str, version: str) -> dict[str, Any]:
        return {"model_version_status": _numbered_statuses(models, name, version)}

    @router.get("/{name}/labels/{label}", openapi_extra=needs("read", responses=answers("VersionStatuses", 404)))
    async def label_status(name: str, label: str) -> dict[str, Any]:
        return {"model_version_status": [_available(_labelled(models, name, label).identity)]}

    @router.get("/{name}/metadata", openapi_extra=needs("read", responses=answers("Metadata", 404)))
    async def metadata(name: str) -> dict[str, Any]:
        return _metadata(_labelled(models, name, "stable"))

    @router.get("/{name}/versions/{version}/metadata", openapi_extra=needs("read", responses=answers("Metadata", 404)))
    async def version_metadata(name: str, version: str) -> dict[str, Any]:
        return _metadata(_numbered(models, name, version))

    @router.get("/{name}/labels/{label}/metadata", openapi_extra=needs("read", responses=answers("Metadata", 404)))
    async def label_metadata(name: str, label: str) -> dict[str, Any]:
        return _metadata(_labelled(models, name, label))

    return router


def _labelled(models: Models, name: str, label: str) -> ServedModel:
    find_status(models.statuses, name)
    labels = {"stable": models.served, "canary": models.canaries}
    if label not in labels:
        raise HTTPException(404, f"Model {name} has no label {label}. Use stable or canary.")
    if (model := labels[label].get(name)) is None:
        raise HTTPException(404, f"Model {name} currently has no {label} version.")
    return model


def _numbered(models: Models, name: str, version: str) -> ServedModel:
    find_status(models.statuses, name)
    for model in (models.served.get(name), models.canaries.get(name)):
        if model is not None and str(model.identity.version) == version:
            return model
    raise HTTPException(404, f"Model {name} is not serving version {version}.")


def _numbered_statuses(models: Models, name: str, version: str) -> list[dict[str, Any]]:
    statuses = _version_statuses(find_status(models.statuses, name))
    found = [status for status in statuses if status["version"] == version]
    if not found:
        raise HTTPException(404, f"Model {name} has no version {version}. GET /v1/models/{name} lists its versions.")
    return found


def _version_statuses(status: ModelStatus) -> list[dict[str, Any]]:
    """A candidate or a rejected file has no version number yet; it is listed as version 0."""
    versions = [_available(identity) for identity in (status.serving, status.canary) if identity is not None]
    for version in status.versions:
        if version.state == "admitted":
            versions.append(_version(str(version.version), "END", "OK", ""))
        elif version.state == "rejected":
            versions.append(_version(str(version.version), "END", "FAILED_PRECONDITION", version.reason or ""))
    if status.rejection is not None and all(each.reason != status.rejection.reason for each in status.versions):
        versions.append(_version("0", "END", "FAILED_PRECONDITION", status.rejection.reason))
    if status.candidate is not None and not versions:
        versions.append(_version("0", "LOADING", "OK", ""))
    return versions


def _available(identity: ModelIdentity) -> dict[str, Any]:
    return _version(str(identity.version), "AVAILABLE", "OK", "")


def _version(version: str, state: str, code: str, message: str) -> dict[str, Any]:
    return {"version": version, "state": state, "status": {"error_code": code, "error_message": message}}


def _metadata(model: ServedModel) -> dict[str, Any]:
    tensors = model.signature
    signature = {
        "inputs": {tensors.input.name: _tensor_info(tensors.input)},
        "outputs": {output.name: _tensor_info(output) for output in tensors.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {
            "name": model.identity.name,
            "signature_name": "",
            "version": str(model.identity.version),
        },
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
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
