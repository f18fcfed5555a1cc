"""Description: what the Open Inference Protocol, with Triton's extensions, says about the agent and its models.

Both the JSON and the messages of gRPC have these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from agent.open_inference.tensors import datatype_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.models.serving import ServedModel
    from agent.runtimes.serving_signature import ServedTensor, ServingSignature
    from agent.status import ModelStatus

_EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters")


class Serving(Protocol):
    """The stable versions and the canaries, by the name of the model."""

    @property
    def served(self) -> Mapping[str, ServedModel]: ...
    @property
    def canaries(self) -> Mapping[str, ServedModel]: ...


def server(*, version: str) -> dict[str, Any]:
    return {"name": "edge-agent", "version": version, "extensions": list(_EXTENSIONS)}


def model(name: str, versions: Sequence[str], signature: ServingSignature) -> dict[str, Any]:
    """The metadata of the model `name`, whose `versions` serve."""
    return {
        "name": name,
        "versions": list(versions),
        "platform": signature.platform,
        "inputs": [_tensor(signature.input)],
        "outputs": [_tensor(output) for output in signature.outputs],
    }


def versions(models: Serving, name: str) -> list[str]:
    """The versions of the model `name` that serve."""
    serving = (each.get(name) for each in (models.served, models.canaries))
    return [str(each.identity.version) for each in serving if each is not None]


def configuration(name: str, signature: ServingSignature, *, max_instances: int) -> dict[str, Any]:
    """What Triton's own clients read of a model's configuration."""
    takes = signature.input
    channels_last = takes.shape[-1:] in ((1,), (3,))
    image = "FORMAT_NONE" if len(takes.shape) < 3 else "FORMAT_NHWC" if channels_last else "FORMAT_NCHW"
    return {
        "name": name,
        "platform": signature.platform,
        "max_batch_size": max_instances,
        "input": [{**_configured(takes), "format": image}],
        "output": [_configured(output) for output in signature.outputs],
    }


def index(statuses: Iterable[ModelStatus], *, only_ready: bool) -> list[dict[str, str]]:
    """Every version of every model, and files that did not become a version."""
    entries = [entry for status in statuses for entry in _versions(status)]
    return [entry for entry in entries if entry["state"] == "READY" or not only_ready]


def _tensor(tensor: ServedTensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": datatype_of(tensor.dtype), "shape": [-1, *tensor.shape]}


def _configured(tensor: ServedTensor) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": f"TYPE_{datatype_of(tensor.dtype)}", "dims": list(tensor.shape) or [1]}


def _versions(status: ModelStatus) -> Iterable[dict[str, str]]:
    for identity in (status.serving, status.canary):
        if identity is not None:
            yield _entry(status.name, "READY", version=str(identity.version))
    for version in status.versions:
        if version.state in ("admitted", "rejected"):
            reason = version.reason or "unloaded"
            yield _entry(status.name, "UNAVAILABLE", version=str(version.version), reason=reason)
    rejection = status.rejection
    if rejection is not None and all(version.reason != rejection.reason for version in status.versions):
        yield _entry(status.name, "UNAVAILABLE", reason=rejection.reason)
    if status.candidate is not None and status.serving is None:
        yield _entry(status.name, "LOADING")


def _entry(name: str, state: str, *, version: str = "", reason: str = "") -> dict[str, str]:
    return {"name": name, "version": version, "state": state, "reason": reason}
