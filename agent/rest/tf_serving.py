"""TensorFlow Serving's REST interface: what it says of models (docs: tensorflow.org/tfx/serving/api_rest)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.models.manager import ServedModel
    from agent.models.metadata import Tensor
    from agent.status import ModelStatus

_DTYPES = {"uint8": "DT_UINT8", "int8": "DT_INT8", "int16": "DT_INT16", "float32": "DT_FLOAT"}


class Models(Protocol):
    @property
    def served(self) -> Mapping[str, ServedModel]: ...
    @property
    def statuses(self) -> Sequence[ModelStatus]: ...


def tf_serving_router(models: Models) -> APIRouter:
    router = APIRouter(prefix="/v1/models", tags=["models"])

    def status_of(name: str) -> ModelStatus:
        found = next((status for status in models.statuses if status.name == name), None)
        if found is None:
            raise HTTPException(404, f"There is no model {name}. GET /v1/models lists what there is.")
        return found

    def served(name: str, version: str | None) -> ServedModel:
        status_of(name)
        model = models.served.get(name)
        if model is None or version not in (None, str(model.identity.version)):
            raise HTTPException(404, f"Model {name} does not serve {'version ' + version if version else 'now'}.")
        return model

    @router.get("")
    async def list_models() -> dict[str, Any]:
        """Every model, its serving version and its last rejection (an addition to TensorFlow Serving's routes)."""
        return {"models": [status.to_json() for status in models.statuses]}

    @router.get("/{name}")
    async def model_status(name: str) -> dict[str, Any]:
        return {"model_version_status": _version_status(status_of(name))}

    @router.get("/{name}/versions/{version}")
    async def version_status(name: str, version: str) -> dict[str, Any]:
        served(name, version)
        return {"model_version_status": _version_status(status_of(name))[:1]}

    @router.get("/{name}/metadata")
    @router.get("/{name}/versions/{version}/metadata")
    async def metadata(name: str, version: str | None = None) -> dict[str, Any]:
        return _metadata(served(name, version))

    return router


def _version_status(status: ModelStatus) -> list[dict[str, Any]]:
    versions = []
    if status.serving is not None:
        versions.append(_version(str(status.serving.version), "AVAILABLE", "OK", ""))
    if status.rejection is not None:
        versions.append(_version("0", "END", "FAILED_PRECONDITION", status.rejection.reason))
    return versions


def _version(version: str, state: str, code: str, message: str) -> dict[str, Any]:
    return {"version": version, "state": state, "status": {"error_code": code, "error_message": message}}


def _metadata(model: ServedModel) -> dict[str, Any]:
    file = model.admitted.file
    signature = {
        "inputs": {tensor.name: _tensor_info(tensor) for tensor in file.inputs},
        "outputs": {tensor.name: _tensor_info(tensor) for tensor in file.outputs},
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


def _tensor_info(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": _DTYPES.get(tensor.dtype, "DT_INVALID"),
        "tensor_shape": {
            "dim": [{"size": str(side), "name": ""} for side in tensor.shape],
            "unknown_rank": False,
        },
    }
